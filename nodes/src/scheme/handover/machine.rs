//! The client's decisions when a server hands over, without sockets and clocks.
//!
//! ```text
//!                 announced            joined               released
//!   dual-path  old ──────▶ old, joining ────▶ both ─────────────────▶ new
//!                               │               │ old gone ─▶ new (gone)
//!                               │               │ new gone ─▶ old (gone)
//!                               ▼ cannot be joined
//!                              old
//!
//!   post-copy  old ──────▶ nobody, joining ─────────────────────────▶ new
//! ```

use std::net::SocketAddr;

/// How often the new server is tried before the client stays with the old one.
const ATTEMPTS: u32 = 3;

/// What the driver is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    /// Connect to the new server and report.
    Join(SocketAddr),
    /// Send requests there from now on.
    Route(Way),
    /// Close the connection to the old server when it owes no answer any more.
    LeaveOld,
    /// Nobody is left to ask.
    GiveUp,
}

/// Where requests go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Nowhere for now.
    Nobody,
    /// To the old server; `gone`: because the new one is gone.
    Old { gone: bool },
    /// To the new server; `gone`: because the old one is gone.
    New { gone: bool },
    /// To both.
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Old,
    Joining {
        address: SocketAddr,
        attempt: u32,
        old_gone: bool,
    },
    Both,
    /// With the new server; the old one may still owe answers.
    New,
    /// With the old server, for good.
    Back,
    Over,
}

/// The state of one client.
#[derive(Debug)]
pub(super) struct Machine {
    dual: bool,
    state: State,
}

impl Machine {
    /// Connected to the old server, under dual-path (`dual`) or post-copy.
    pub(super) fn new(dual: bool) -> Self {
        Self { dual, state: State::Old }
    }

    /// The old server said where the new one is.
    pub(super) fn announced(&mut self, address: SocketAddr) -> Vec<Command> {
        if self.state != State::Old {
            return vec![];
        }
        self.state = State::Joining { address, attempt: 1, old_gone: false };
        let mut commands = vec![Command::Join(address)];
        if !self.dual {
            commands.push(Command::Route(Way::Nobody));
        }
        commands
    }

    /// The connection to the new server is there.
    pub(super) fn joined(&mut self) -> Vec<Command> {
        let State::Joining { old_gone, .. } = self.state else { return vec![] };
        if self.dual && !old_gone {
            self.state = State::Both;
            return vec![Command::Route(Way::Both)];
        }
        self.state = State::New;
        vec![Command::Route(Way::New { gone: old_gone && self.dual }), Command::LeaveOld]
    }

    /// The new server could not be reached.
    pub(super) fn not_joined(&mut self) -> Vec<Command> {
        let State::Joining { address, attempt, old_gone } = self.state else { return vec![] };
        if attempt < ATTEMPTS {
            self.state = State::Joining { address, attempt: attempt + 1, old_gone };
            return vec![Command::Join(address)];
        }
        if old_gone {
            self.state = State::Over;
            return vec![Command::GiveUp];
        }
        self.state = State::Back;
        vec![Command::Route(Way::Old { gone: true })]
    }

    /// The old server says that it is not needed any more.
    pub(super) fn released(&mut self) -> Vec<Command> {
        if self.state != State::Both {
            return vec![];
        }
        self.state = State::New;
        vec![Command::Route(Way::New { gone: false }), Command::LeaveOld]
    }

    /// The old server is gone.
    pub(super) fn old_gone(&mut self) -> Vec<Command> {
        match &mut self.state {
            State::Joining { old_gone, .. } => {
                *old_gone = true;
                vec![Command::Route(Way::Nobody)]
            }
            State::Both => {
                self.state = State::New;
                vec![Command::Route(Way::New { gone: true })]
            }
            // Its answers are asked for again from the new one.
            State::New => vec![Command::Route(Way::New { gone: false })],
            State::Old | State::Back => {
                self.state = State::Over;
                vec![Command::GiveUp]
            }
            State::Over => vec![],
        }
    }

    /// The new server is gone; `with_old`: the old one is still there.
    pub(super) fn new_gone(&mut self, with_old: bool) -> Vec<Command> {
        match self.state {
            State::Both | State::New if with_old => {
                self.state = State::Back;
                vec![Command::Route(Way::Old { gone: true })]
            }
            State::Both | State::New => {
                self.state = State::Over;
                vec![Command::GiveUp]
            }
            _ => vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GONE: bool = true;

    fn address() -> SocketAddr {
        "10.0.0.2:4433".parse().unwrap()
    }

    fn joined(dual: bool) -> (Machine, Vec<Command>) {
        let mut machine = Machine::new(dual);
        machine.announced(address());
        let commands = machine.joined();
        (machine, commands)
    }

    #[test]
    fn dual_path_goes_on_with_the_old_server_until_it_is_released() {
        let mut machine = Machine::new(true);
        assert_eq!(machine.announced(address()), [Command::Join(address())]);
        assert_eq!(machine.announced(address()), [], "once is enough");
        assert_eq!(machine.joined(), [Command::Route(Way::Both)]);
        let new = Command::Route(Way::New { gone: false });
        assert_eq!(machine.released(), [new, Command::LeaveOld]);
        assert_eq!(machine.new_gone(false), [Command::GiveUp]);
    }

    #[test]
    fn post_copy_asks_nobody_until_it_has_joined() {
        let mut machine = Machine::new(false);
        let wait = Command::Route(Way::Nobody);
        assert_eq!(machine.announced(address()), [Command::Join(address()), wait]);
        let new = Command::Route(Way::New { gone: false });
        assert_eq!(machine.joined(), [new, Command::LeaveOld]);
        assert_eq!(machine.released(), []);
    }

    #[test]
    fn whoever_is_left_is_told_that_the_other_one_is_gone() {
        let (mut machine, _) = joined(true);
        assert_eq!(machine.old_gone(), [Command::Route(Way::New { gone: GONE })]);
        let (mut machine, _) = joined(true);
        assert_eq!(machine.new_gone(true), [Command::Route(Way::Old { gone: GONE })]);
        assert_eq!(machine.released(), []);
        assert_eq!(machine.old_gone(), [Command::GiveUp]);
    }

    #[test]
    fn an_old_server_that_dies_early_is_waited_out() {
        let mut machine = Machine::new(true);
        machine.announced(address());
        assert_eq!(machine.old_gone(), [Command::Route(Way::Nobody)]);
        let new = Command::Route(Way::New { gone: GONE });
        assert_eq!(machine.joined(), [new, Command::LeaveOld]);
    }

    #[test]
    fn a_new_server_that_never_comes_leaves_the_client_with_the_old_one() {
        for dual in [true, false] {
            let mut machine = Machine::new(dual);
            machine.announced(address());
            assert_eq!(machine.not_joined(), [Command::Join(address())]);
            assert_eq!(machine.not_joined(), [Command::Join(address())]);
            assert_eq!(machine.not_joined(), [Command::Route(Way::Old { gone: GONE })]);
        }
    }
}
