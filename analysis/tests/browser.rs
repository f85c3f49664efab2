//! The pages in a real browser, opened from disk: no error, no request, every figure to be seen.
//!
//! Ignored by default, because a user's machine need not have a browser; continuous integration runs it
//! with `cargo test -p limosa-analysis --test browser -- --ignored`. Pictures of the pages are kept in the
//! folder that `LIMOSA_SCREENSHOTS` names.

mod chromium;
#[expect(dead_code, reason = "shared with the other tests, which use all of it")]
mod paper_like;

use chromium::Browser;
use limosa_analysis::{analyse, compare};
use limosa_record::dir::RunDir;
use serde_json::{Value, json};
use std::{fs, path::Path};

fn folder() -> (tempfile::TempDir, RunDir) {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::new(folder.path());
    (folder, run)
}

fn keep(browser: &mut Browser, name: &str) {
    if let Some(folder) = std::env::var_os("LIMOSA_SCREENSHOTS") {
        fs::create_dir_all(&folder).unwrap();
        fs::write(Path::new(&folder).join(name), browser.screenshot()).unwrap();
    }
}

/// Of each figure: width, height, and how many of its shapes and texts lie outside of it.
const FIGURES: &str = "[...document.querySelectorAll('figure')].map(f => {
    const view = [...f.querySelectorAll('.view')].find(v => v.offsetParent !== null);
    const svg = view.querySelector('svg'), box = svg.getBoundingClientRect();
    const parts = [...svg.querySelectorAll('text, path, rect, circle')];
    const out = parts.map(p => p.getBoundingClientRect()).filter(b =>
        b.left < box.left - 2 || b.right > box.right + 2 || b.top < box.top - 2 || b.bottom > box.bottom + 2);
    return {width: box.width, height: box.height, parts: parts.length, out: out.length};
})";

#[track_caller]
fn all_figures_are_seen(browser: &mut Browser, at_least: usize) {
    let figures = browser.value(FIGURES);
    let figures = figures.as_array().unwrap();
    assert!(figures.len() >= at_least, "{} figures", figures.len());
    for (i, f) in figures.iter().enumerate() {
        let number = |key: &str| f[key].as_f64().unwrap();
        assert!(number("width") > 500.0 && number("height") > 80.0, "figure {}: {f}", i + 1);
        assert!(number("parts") > 5.0 && number("out") == 0.0, "figure {}: {f}", i + 1);
    }
}

fn open(browser: &mut Browser, page: &Path) {
    browser.open(&format!("file://{}", page.display()));
}

#[test]
#[ignore = "needs Chromium: apt-get install chromium"]
fn the_report_is_whole_and_asks_for_nothing() {
    let (_folder, run) = folder();
    paper_like::write(&run, 20).unwrap();
    analyse(&run).unwrap();
    let mut browser = Browser::start();
    open(&mut browser, &run.report());
    all_figures_are_seen(&mut browser, 11);
    keep(&mut browser, "report.png");

    // The pointer over a throughput figure is told its values.
    let place = browser.value(
        "(() => { const view = [...document.querySelectorAll('.view[data-hover]')].at(-2);
            view.scrollIntoView(); const b = view.querySelector('svg').getBoundingClientRect();
            return {x: b.left + b.width / 2, y: b.top + b.height / 2}; })()",
    );
    let moved = json!({"type": "mouseMoved", "x": place["x"], "y": place["y"]});
    browser.call("Input.dispatchMouseEvent", moved);
    let told = browser.value(
        "[...document.querySelectorAll('.tip')].filter(t => !t.hidden).map(t => t.textContent)",
    );
    let told = told[0].as_str().unwrap_or_default().to_owned();
    for word in ["all paths: ", "eth0: ", "eth1: ", " Mbit/s", " s\n"] {
        assert!(told.contains(word), "{word} is not in {told:?}");
    }
    keep(&mut browser, "report-hover.png");

    // Every button shows the migration in the place of the whole, and back.
    let buttons = browser
        .value("[...document.querySelectorAll('figure > button')].map(b => b.click()).length");
    assert_eq!(buttons, json!(2));
    all_figures_are_seen(&mut browser, 11);
    let zoomed =
        "[...document.querySelectorAll('.view.zoom')].filter(v => v.offsetParent !== null).length";
    assert_eq!(browser.value(zoomed), json!(2));
    keep(&mut browser, "report-zoomed.png");
    browser.value("[...document.querySelectorAll('figure > button')].forEach(b => b.click())");
    assert_eq!(browser.value(zoomed), json!(0));
    assert_eq!(browser.complaints(), [""; 0]);

    // In print nothing is wider than the paper.
    let print = json!({"printBackground": true});
    assert!(browser.call("Page.printToPDF", print)["data"].as_str().unwrap().len() > 10_000);
}

#[test]
#[ignore = "needs Chromium: apt-get install chromium"]
fn responses_and_comparisons_are_whole_too() {
    let (_folder, run) = folder();
    paper_like::responses::write(&run).unwrap();
    analyse(&run).unwrap();
    let mut browser = Browser::start();
    open(&mut browser, &run.report());
    all_figures_are_seen(&mut browser, 5);
    assert_eq!(browser.complaints(), [""; 0]);
    keep(&mut browser, "responses.png");

    let [(_a, before), (_b, after)] = [folder(), folder()];
    paper_like::write(&before, 20).unwrap();
    paper_like::write(&after, 12).unwrap();
    compare(&[before, after.clone()]).unwrap();
    open(&mut browser, &after.comparison());
    all_figures_are_seen(&mut browser, 1);
    assert_eq!(browser.complaints(), [""; 0]);
    keep(&mut browser, "comparison.png");
}

/// What the tests above rely on: this browser does tell of errors and requests.
#[test]
#[ignore = "needs Chromium: apt-get install chromium"]
fn errors_and_requests_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let mut browser = Browser::start();
    for bad in [
        "<script>no_such_thing()</script>",
        "<script>console.error('x')</script>",
        "<img src='http://127.0.0.1:9/x.png'>",
    ] {
        fs::write(&page, bad).unwrap();
        open(&mut browser, &page);
        assert_ne!(browser.complaints(), [""; 0], "{bad}");
    }
    // And the report's own policy stops a request before it is sent.
    let (_folder, run) = self::folder();
    paper_like::write(&run, 1).unwrap();
    analyse(&run).unwrap();
    let whole = fs::read_to_string(run.report()).unwrap();
    fs::write(&page, whole.replace("</body>", "<img src='http://127.0.0.1:9/x.png'></body>"))
        .unwrap();
    open(&mut browser, &page);
    let blocked = |c: &String| c.contains("Content Security Policy");
    assert!(browser.complaints().iter().any(blocked), "{:?}", browser.complaints());
    assert_eq!(browser.value("1 + 1"), Value::from(2));
}
