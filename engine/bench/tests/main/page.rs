//! What the page is in Chromium: it asks for nothing, complains of nothing, and fits.

use std::{env, fs, path::Path, time::Duration};

use anyhow::Result;
use envmill_bench::{page::render, report::Report};
use envmill_testing::{Chromium, Tab, View, Watchdog};
use serde_json::{Value, json};

use crate::hostile::{degenerate, hostile, rates, sample};

/// A folder that pictures of the sample are written to, where somebody asks for them.
const PICTURES: &str = "ENVMILL_PICTURES";

/// The least size of text that is read without effort, in CSS pixels.
const TEXT_PX_MIN: f64 = 11.0;

/// The smallest text on the page as it is drawn, folds opened: its size and its words. The size in a
/// drawing is that of the stylesheet times how much the drawing is scaled, up to rounding.
const SMALLEST_TEXT: &str = "(() => {
  document.querySelectorAll('details').forEach(fold => { fold.open = true; });
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let least = [1e9, ''];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || ['title', 'desc'].includes(element.localName)) continue;
    if (element.getBoundingClientRect().height === 0) continue;
    const scale = element.getScreenCTM ? element.getScreenCTM().a : 1;
    const size = parseFloat(getComputedStyle(element).fontSize) * scale;
    if (size < least[0]) least = [size, node.data];
  }
  return least;
})()";

/// What of the page hangs over its right edge, but for what scrolls by itself.
const TOO_WIDE: &str = "[document.documentElement.scrollWidth, window.innerWidth,
  [...document.querySelectorAll('body *')].filter(element =>
    element.getBoundingClientRect().right > window.innerWidth + 1 && !element.closest('.scroll, svg'))
    .map(element => element.outerHTML.slice(0, 120)).slice(0, 3)]";

/// What the browser has made of the file: elements, and attributes that could do something.
const MADE_OF: &str = "(() => {
  const all = [...document.querySelectorAll('*')];
  return [[...new Set(all.map(element => element.localName))].sort(),
    all.flatMap(element => [...element.attributes])
      .filter(({ name, value }) => name.startsWith('on') || name === 'style' || name === 'src'
        || (name === 'href' && !/^(https?:\\/\\/|#|data:,$)/i.test(value)))
      .map(({ name, value }) => name + '=' + value)];
})()";

/// The elements that a page consists of.
const ELEMENTS: [&str; 50] = [
    "a",
    "b",
    "bdi",
    "body",
    "circle",
    "code",
    "dd",
    "desc",
    "details",
    "div",
    "dl",
    "dt",
    "figcaption",
    "figure",
    "h1",
    "h2",
    "h3",
    "h4",
    "head",
    "header",
    "html",
    "li",
    "link",
    "main",
    "meta",
    "p",
    "polygon",
    "polyline",
    "pre",
    "rect",
    "section",
    "small",
    "span",
    "style",
    "summary",
    "svg",
    "table",
    "tbody",
    "td",
    "text",
    "th",
    "thead",
    "title",
    "tr",
    "tspan",
    "ul",
    "ol",
    "line",
    "g",
    "time",
];

#[test]
fn the_page_asks_for_nothing_and_fits_phone_and_desktop() {
    let _watchdog = Watchdog::start("the page in Chromium", Duration::from_secs(1200));
    let mut chromium = Chromium::start().unwrap();
    check("sample", &sample(), &mut chromium).unwrap();
    check("rates", &rates(), &mut chromium).unwrap();
}

#[test]
fn what_others_have_written_stays_text() {
    let _watchdog = Watchdog::start("a hostile page in Chromium", Duration::from_secs(1200));
    let mut chromium = Chromium::start().unwrap();
    check("hostile", &hostile(), &mut chromium).unwrap();
}

#[test]
fn a_report_without_numbers_is_a_page() {
    let _watchdog = Watchdog::start("degenerate pages in Chromium", Duration::from_secs(1200));
    let mut chromium = Chromium::start().unwrap();
    for (index, report) in degenerate().iter().enumerate() {
        check(&format!("degenerate-{index}"), report, &mut chromium).unwrap();
    }
}

fn check(name: &str, report: &Report, chromium: &mut Chromium) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("report.html");
    fs::write(&path, render(report))?;
    let url = format!("file://{}", path.display());
    let small = View { width: 360, height: 640, ..View::PHONE };
    for (screen, view) in [("phone", View::PHONE), ("desktop", View::DESKTOP), ("small", small)] {
        let mut tab = chromium.open(&url, view)?;
        pictures(&mut tab, name, screen, view)?;
        let what = format!("{name} on a {screen}");

        let smallest = tab.evaluate(SMALLEST_TEXT)?;
        assert!(smallest[0].as_f64().unwrap() >= TEXT_PX_MIN, "{what}: small text: {smallest}");
        let width = tab.evaluate(TOO_WIDE)?;
        assert_eq!(width, json!([view.width, view.width, []]), "{what}: too wide");

        let made_of = tab.evaluate(MADE_OF)?;
        let names: Vec<&str> =
            made_of[0].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(names.iter().all(|name| ELEMENTS.contains(name)), "{what}: {names:?}");
        assert_eq!(made_of[1], json!([]), "{what}: attributes that do something");

        let behaviour = tab.behaviour()?;
        assert_eq!(behaviour.complaints, [""; 0], "{what}");
        let mut requests = behaviour.requests;
        // The empty icon is in the file itself.
        requests.retain(|url| url != "data:,");
        assert_eq!(requests, [url.as_str()], "{what}");
    }
    Ok(())
}

fn pictures(tab: &mut Tab<'_>, name: &str, screen: &str, view: View) -> Result<()> {
    let Some(folder) = env::var_os(PICTURES) else { return Ok(()) };
    let folder = Path::new(&folder);
    fs::create_dir_all(folder)?;
    let looks = [("light", view), ("dark", view.dark()), ("print", view.printed())];
    for (look, view) in looks {
        tab.look(view)?;
        tab.picture(&folder.join(format!("{name}-{screen}-{look}.png")))?;
    }
    tab.look(view)
}

#[test]
fn a_policy_that_is_broken_and_a_request_are_seen() {
    let _watchdog = Watchdog::start("a bad page in Chromium", Duration::from_secs(1200));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.html");
    let page = "<!DOCTYPE html><meta http-equiv='Content-Security-Policy' content=\"style-src 'none'\">\
                <style>p { color: red }</style><script>console.log('ran')</script>\
                <img src='http://127.0.0.1:9/picture'><p>text";
    fs::write(&path, page).unwrap();
    let mut chromium = Chromium::start().unwrap();
    let mut tab = chromium.open(&format!("file://{}", path.display()), View::PHONE).unwrap();
    let behaviour = tab.behaviour().unwrap();
    let complaints = behaviour.complaints.join("\n");
    for complaint in ["ran", "Content Security Policy", "ERR_"] {
        assert!(complaints.contains(complaint), "{complaint}: {complaints}");
    }
    assert!(behaviour.requests.iter().any(|url| url.ends_with("/picture")), "{behaviour:?}");
}
