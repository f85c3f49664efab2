# Fast local subset of CI: nothing that needs root or a guest. With nextest, each test by itself:
# `cargo nextest run --workspace`.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    LIMOSA_TESTS=fast cargo test --workspace

# What takes too long for every change.
night:
    LIMOSA_TESTS=night cargo test --workspace

# Everything that CI does.
ci:
    .ci/run

# The schemas and snapshots, after a wanted change.
update:
    LIMOSA_UPDATE_SCHEMAS=1 INSTA_UPDATE=always cargo test -p limosa --test shipped_files --test bad_files --test bad_timelines --test cli
