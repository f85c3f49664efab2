# Fast local subset of CI.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo test --workspace -- --skip guest

# Everything that CI does.
ci:
    .ci/run

# The schemas and snapshots, after a wanted change.
update:
    LIMOSA_UPDATE_SCHEMAS=1 INSTA_UPDATE=always cargo test -p limosa --test shipped_files --test bad_files --test cli
