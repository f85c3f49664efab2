//! The new server's machine.

use super::{Verdict, target::Target};
use crate::store::{Id, Version, wire::To};

fn v(number: u64) -> Version {
    Version { number, client: 0 }
}

#[test]
fn the_new_server_never_guesses() {
    let mut target = Target::new(true);
    let judge = |t: &Target, number, held| t.judge("a", 0, number, To::Both, v(0), held);
    assert_eq!(judge(&target, 9, None), Verdict::Wait);
    assert_eq!(judge(&target, 9, Some(v(0))), Verdict::Wait, "it holds it and does not know");
    target.commit("a".into(), 0, 10);
    assert_eq!(judge(&target, 9, Some(v(0))), Verdict::NotMine);
    assert_eq!(judge(&target, 10, Some(v(0))), Verdict::Answer);
    let other = target.judge("a", 1, 10, To::Both, v(0), Some(v(0)));
    assert_eq!(other, Verdict::Wait, "a cut is one client's");
}

#[test]
fn nobody_answers_with_less_than_the_client_has_seen() {
    let mut target = Target::new(true);
    target.commit("a".into(), 0, 1);
    assert_eq!(target.judge("a", 0, 5, To::Both, v(3), Some(v(2))), Verdict::Wait);
    assert_eq!(target.judge("a", 0, 5, To::Both, v(3), Some(v(3))), Verdict::Answer);
    assert_eq!(target.judge("a", 0, 5, To::Gone, v(3), Some(v(2))), Verdict::Lost);
}

#[test]
fn after_the_old_servers_death_what_is_here_is_answered_and_the_rest_is_lost() {
    let mut target = Target::new(true);
    assert!(target.alone());
    assert!(!target.alone(), "once");
    assert_eq!(target.judge("a", 0, 1, To::Gone, v(0), Some(v(0))), Verdict::Answer);
    assert_eq!(target.judge("b", 0, 1, To::Gone, v(0), None), Verdict::Lost);
}

#[test]
fn post_copy_pulls_once_and_only_from_a_server_that_can_be_reached() {
    let (mut target, a) = (Target::new(false), Id::from("a"));
    let judge = |t: &Target| t.judge("a", 0, 1, To::Only, v(0), None);
    assert_eq!(judge(&target), Verdict::Wait, "the old server has not come yet");
    assert!(!target.pull(&a));
    target.linked(true);
    assert_eq!(judge(&target), Verdict::Pull);
    assert!(target.pull(&a));
    assert!(!target.pull(&a), "it was asked for");
    target.linked(false);
    assert_eq!(judge(&target), Verdict::Lost);
    target.linked(true);
    assert!(target.pull(&a), "the question may have been lost");
    target.arrived("a");
    assert_eq!(target.judge("a", 0, 1, To::Only, v(0), Some(v(0))), Verdict::Answer);
}

#[test]
fn a_dismissed_server_answers_nothing() {
    let mut target = Target::new(true);
    target.commit("a".into(), 0, 1);
    target.dismissed();
    for to in [To::Both, To::Only, To::Gone] {
        assert_eq!(target.judge("a", 0, 1, to, v(0), Some(v(0))), Verdict::NotMine);
    }
    assert!(!target.may_create(To::Gone));
}
