//! Strangers' experiments run for real, and what root leaves beside others' files: who owns it, who may
//! change it, and that nothing else has changed.

use super::{
    files::{self, HEAD, TINY},
    machine::{limosa, number, text},
};
use limosa_lab::owner::{self, Owner};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Nobody.
const USER: u32 = 65534;

/// The host's files with a tree that nothing may change below them, and every change in `$D/upper`. The
/// journal is another: from in here the locks of the host's runs are not seen, and they would be cleaned up.
const WORLD: &str = "set -e
mount --make-rprivate /
mount -t tmpfs none \"$D\"
mkdir -p \"$D/marked/srv/marked/deep\" \"$D/upper\" \"$D/work\" \"$D/root\"
echo kept > \"$D/marked/srv/marked/file\"
echo kept > \"$D/marked/srv/marked/deep/file\"
mount -t overlay none -o \"lowerdir=$D/marked:/,upperdir=$D/upper,workdir=$D/work\" \"$D/root\"
for part in proc dev sys; do mount --rbind /$part \"$D/root/$part\"; done
mkdir \"$D/root/hostile-in\" \"$D/root/hostile-work\" \"$D/root/hostile-old\"
cp \"$LIMOSA\" \"$D/root/hostile-in/limosa\"
cp \"$FILES\"/* \"$D/root/hostile-in\"
mount -t tmpfs none \"$D/root/hostile-work\"
mkdir -p \"$D/root/var/lib/limosa\"
mount -t tmpfs none \"$D/root/var/lib/limosa\"
for file in \"$D\"/root/hostile-in/*.yaml; do
    name=${file##*/}
    code=0
    NAME=\"$name\" unshare -m sh -c 'cd \"$D/root\" && pivot_root . hostile-old && umount -l hostile-old && cd /hostile-in && TMPDIR=/hostile-work exec ./limosa run \"./$NAME\" --on host --links user --out /hostile-out' >> \"$D/told\" 2>&1 || code=$?
    echo \"ran $code\"
done
find \"$D/root/hostile-work\" -mindepth 1 -printf 'left %P\\n'
find \"$D/upper\" -mindepth 1 -printf 'changed %y %P\\n'
cat \"$D/told\"
";

/// What a run may change.
const OURS: [&str; 5] = ["hostile-", "var/lib/limosa", "root/.cache/limosa", "run/limosa", "home"];

fn accepted_files_change_nothing_outside() {
    let wanted = number("LIMOSA_HOSTILE_RUNS", 6);
    let (folder, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(files.path().join("tiny.yaml"), TINY).unwrap();
    let mut found = 0;
    for n in 0.. {
        let hostile = files::experiment(n);
        let file = files.path().join(&hostile.name);
        if hostile.text.contains("command:")
            || file.exists()
            || fs::write(&file, hostile.text).is_err()
        {
            continue;
        }
        if limosa().arg("plan").arg(&file).output().unwrap().status.code() == Some(0) {
            found += 1;
        } else if n % 40 != 0 {
            // Some that are refused go along.
            fs::remove_file(&file).unwrap();
        }
        if found == wanted {
            break;
        }
    }
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", WORLD])
        .env("D", folder.path())
        .env("FILES", files.path())
        .env("LIMOSA", limosa().get_program())
        .output()
        .unwrap();
    let told = text(&output);
    assert!(output.status.success(), "{told}");
    let ran = told.lines().filter(|l| matches!(*l, "ran 0" | "ran 5")).count();
    assert_eq!(ran as u64, found, "{told}");
    let changed = told.lines().filter_map(|l| l.strip_prefix("changed "));
    let odd: Vec<_> = changed
        .filter_map(|l| l.split_once(' '))
        .filter(|(kind, place)| *kind != "d" || !Path::new("/").join(place).is_dir())
        .filter(|(_, place)| !OURS.iter().any(|ours| place.starts_with(ours)))
        .collect();
    assert!(odd.is_empty(), "{odd:#?}");
    assert!(!told.contains("\nleft "), "{told}");
    println!("{ran} hostile files ran");
}

/// A run without CRIU, as sudo starts it.
fn under_sudo(folder: &Path, more: &[(&str, &str)]) -> Output {
    fs::write(folder.join("tiny.yaml"), TINY).unwrap();
    fs::write(folder.join("x.yaml"), HEAD).unwrap();
    let mut command = limosa();
    command
        .args(["run", "x.yaml", "--on", "host", "--links", "user", "--out", "shared"])
        .current_dir(folder)
        .envs([("SUDO_UID", "65534"), ("SUDO_GID", "65534")])
        .envs(more.iter().copied());
    command.output().unwrap()
}

fn owner_of(path: PathBuf) -> u32 {
    path.symlink_metadata().unwrap().uid()
}

fn regression_only_what_the_run_made_is_given_to_the_user() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::create_dir_all(at("shared/foreign")).unwrap();
    fs::write(at("shared/foreign/file"), "x").unwrap();
    chown(at("shared/foreign/file"), Some(1), Some(1)).unwrap();
    fs::write(at("outside"), "x").unwrap();
    fs::hard_link(at("outside"), at("shared/twin")).unwrap();
    symlink(at("outside"), at("shared/link")).unwrap();
    lchown(at("shared/link"), Some(0), Some(0)).unwrap();
    let output = under_sudo(place.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    for kept in ["shared", "shared/foreign", "shared/twin", "shared/link", "outside", "x.yaml"] {
        assert_eq!(owner_of(at(kept)), 0, "{kept}");
    }
    assert_eq!(owner_of(at("shared/foreign/file")), 1);
    for given in ["shared/x", "shared/x/latest"] {
        assert_eq!(owner_of(at(given)), USER, "{given}");
    }
    let mut left = vec![at("shared/x")];
    let mut files = 0;
    while let Some(path) = left.pop() {
        assert_eq!(owner_of(path.clone()), USER, "{}", path.display());
        files += 1;
        if path.symlink_metadata().unwrap().is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
    }
    assert!(files > 15, "{files}");
}

fn regression_a_run_that_ends_in_an_error_is_given_too() {
    for (fault, code) in [("write/trials.csv:full", 4), ("write/plan.json:full", 4)] {
        let place = tempfile::tempdir().unwrap();
        let output = under_sudo(place.path(), &[(limosa_record::fault::VARIABLE, fault)]);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        let runs = fs::read_dir(place.path().join("shared/x")).unwrap();
        let runs: Vec<_> = runs.map(|e| e.unwrap().path()).collect();
        assert!(!runs.is_empty());
        runs.into_iter()
            .for_each(|run| assert_eq!(owner_of(run.clone()), USER, "{fault}: {run:?}"));
        assert_eq!(owner_of(place.path().join("shared")), USER, "it was made, too");
    }
}

/// A shell with a /var/lib and a /run of its own.
fn alone(script: &str, folder: &Path) -> Output {
    let private =
        "mount --make-rprivate / && mount -t tmpfs none /var/lib && mount -t tmpfs none /run && ";
    Command::new("unshare")
        .args(["-m", "sh", "-c", &format!("{private}{script}")])
        .env("LIMOSA", limosa().get_program())
        .current_dir(folder)
        .output()
        .unwrap()
}

fn regression_the_journal_is_roots_whatever_the_umask_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tiny.yaml"), TINY).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let script = "umask 0; \"$LIMOSA\" up tiny.yaml && find /var/lib/limosa /run/limosa ! -type l -perm /022 -printf 'lax %p\\n' && find /var/lib/limosa/journal /run/limosa/labs -maxdepth 0 -printf 'mode %m\\n' && \"$LIMOSA\" down tiny \
        && chmod -R 777 /var/lib/limosa && mkdir /run/precious && printf '{\"Folder\":\"/run/precious\"}' > /var/lib/limosa/journal/1-1.json && chown nobody /var/lib/limosa/journal/1-1.json \
        && \"$LIMOSA\" clean && ls -d /run/precious && find /var/lib/limosa/journal -maxdepth 0 -printf 'mended %m\\n'";
    let told = text(&alone(script, folder.path()));
    assert!(!told.contains("lax "), "{told}");
    assert_eq!(told.matches("mode 700").count(), 2, "{told}");
    assert!(told.contains("forgot /var/lib/limosa/journal/1-1.json"), "{told}");
    assert!(told.contains("/run/precious\nmended 700"), "{told}");
}

fn regression_whoever_holds_a_lock_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let script = "\"$LIMOSA\" clean; flock /var/lib/limosa/journal/lock sleep 4 & sleep 0.5; \"$LIMOSA\" clean; wait";
    let told = text(&alone(script, folder.path()));
    assert!(
        told.contains("waiting for process ") || told.contains("waiting for another"),
        "{told}"
    );
    assert!(told.contains("which holds /var/lib/limosa/journal/lock"), "{told}");
    assert_eq!(told.matches("nothing to clean").count(), 2, "{told}");
}

fn regression_keys_are_nobody_elses() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("tiny.yaml"), TINY).unwrap();
    let keyed = format!("{HEAD}transport: {{key_log: true, qlog: true}}\n");
    let (output, run) = super::run(place.path(), "keyed", &keyed);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let mut left = vec![run.root().join("trials")];
    let mut secrets = 0;
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        } else if path.ends_with("keys.log") || path.extension().is_some_and(|e| e == "qlog") {
            secrets += 1;
            assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600, "{}", path.display());
        }
    }
    assert!(secrets >= 4, "{secrets}");
}

fn regression_links_in_a_run_directory_are_not_written_through() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let output = under_sudo(place.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    fs::write(at("victim"), "kept").unwrap();
    let trials = at("shared/x/latest/trials.csv");
    fs::rename(&trials, at("before.csv")).unwrap();
    symlink(at("victim"), &trials).unwrap();
    let mut again = limosa();
    again
        .args(["run", "x.yaml", "--on", "host", "--links", "user", "--out", "shared", "--resume"])
        .current_dir(place.path());
    again.output().unwrap();
    assert_eq!(fs::read_to_string(at("victim")).unwrap(), "kept");
    // What only root may read is not copied to where others may.
    fs::write(at("secret"), "secret: 1").unwrap();
    fs::set_permissions(at("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink(at("secret"), at("x.reference.yaml")).unwrap();
    let output = under_sudo(place.path(), &[]);
    let told = text(&output);
    assert!(output.status.code() != Some(0) && told.contains("only root may read it"), "{told}");
    assert!(!told.contains("secret: 1"), "{told}");
}

fn regression_only_what_is_ours_is_given() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::create_dir_all(at("run/deep")).unwrap();
    for name in ["run/deep/own", "run/twin", "foreign", "outside"] {
        fs::write(at(name), "x").unwrap();
    }
    fs::hard_link(at("outside"), at("run/deep/hard")).unwrap();
    fs::write(at("run/others"), "x").unwrap();
    chown(at("run/others"), Some(7), Some(7)).unwrap();
    symlink(at("outside"), at("run/link")).unwrap();
    symlink(place.path(), at("run/deep/up")).unwrap();
    lchown(at("foreign"), Some(9), Some(9)).unwrap();
    owner::give(&at("run"), true, Owner { user: USER, group: USER }).unwrap();
    let user = |name: &str| at(name).symlink_metadata().unwrap().uid();
    for given in ["run", "run/deep", "run/deep/own", "run/twin", "run/link", "run/deep/up"] {
        assert_eq!(user(given), USER, "{given}");
    }
    for kept in ["outside", "run/deep/hard", ""] {
        assert_eq!(user(kept), 0, "{kept}");
    }
    assert_eq!((user("run/others"), user("foreign")), (7, 9));
}

limosa_testkit::tests![
    accepted_files_change_nothing_outside,
    regression_only_what_is_ours_is_given,
    regression_only_what_the_run_made_is_given_to_the_user,
    regression_a_run_that_ends_in_an_error_is_given_too,
    regression_the_journal_is_roots_whatever_the_umask_is,
    regression_whoever_holds_a_lock_is_named,
    regression_keys_are_nobody_elses,
    regression_links_in_a_run_directory_are_not_written_through,
];
