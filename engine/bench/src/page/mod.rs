//! The report as a page: one file of HTML without scripts, that asks no host for anything.
//!
//! Start at [`render`]. Drawings are SVG that is written here (`figures`, `plot`, `scale`); all text passes
//! through `html`, which can only put it in escaped. Deliberately absent: scripts, fonts, anything that is
//! fetched. What would be a script elsewhere is HTML's own: folds are `<details>`, and what a dot stands for
//! is its `<title>`.
//!
//! Names of targets and environments, causes of failures and versions come from servers, which may be
//! anybody's: the page's policy (`Content-Security-Policy`) allows its one stylesheet, by its hash, and
//! nothing else.

mod figures;
mod html;
mod numbers;
mod plot;
mod scale;
mod sweep;
mod tables;
mod target;
mod text;
mod top;
mod verdict;

#[cfg(test)]
mod tests;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

use self::html::{Html, fixed, text};
use crate::report::Report;

/// The stylesheet. Its media queries are for phones, dark screens and paper.
const STYLE: &str = include_str!("style.css");

/// The report as one HTML file, whatever is in it: points that are missing, numbers that are none and text
/// that is markup only look like what they are.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut html = Html::default();
    html.doctype();
    html.element("html", &[fixed("lang", "en")], |html| {
        html.element("head", &[], |html| head(html, report));
        html.element("body", &[], |html| {
            html.element("main", &[], |html| {
                top::header(html, report);
                top::comparison(html, report);
                for (index, target) in report.targets.iter().enumerate() {
                    target::section(html, target, index);
                }
                top::how(html, report);
            });
        });
    });
    html.into_string()
}

fn head(html: &mut Html, report: &Report) {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; form-action 'none'"
    );
    html.empty("meta", &[fixed("charset", "utf-8")]);
    let policy = [fixed("http-equiv", "Content-Security-Policy"), text("content", &policy)];
    html.empty("meta", &policy);
    let view = "width=device-width, initial-scale=1";
    html.empty("meta", &[fixed("name", "viewport"), fixed("content", view)]);
    html.empty("meta", &[fixed("name", "referrer"), fixed("content", "no-referrer")]);
    html.empty("meta", &[fixed("name", "color-scheme"), fixed("content", "light dark")]);
    // An icon that is empty keeps browsers from asking a server for one.
    html.empty("link", &[fixed("rel", "icon"), fixed("href", "data:,")]);
    html.leaf("title", &[], &format!("{} · envmill bench", top::title(report)));
    html.style(STYLE);
}
