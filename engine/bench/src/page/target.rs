//! The section of one target.

use super::{
    figures,
    html::{Html, class, fixed, text},
    numbers::NONE,
    sweep::Sweep,
    tables,
    text::is_web_address,
    top::name_of,
    verdict,
};
use crate::report::{Kind, Target};

/// How many versions are shown.
const VERSIONS_MAX: usize = 12;

/// The name that links lead to.
pub(super) fn anchor(index: usize) -> String {
    format!("target-{}", index + 1)
}

/// All that was found of a target.
pub(super) fn section(html: &mut Html, target: &Target, index: usize) {
    let sweeps = Sweep::all_of(target);
    let id = anchor(index);
    html.element("section", &[class("target"), text("id", &id)], |html| {
        html.element("h2", &[], |html| html.foreign(name_of(target)));
        about(html, target);
        if let Some(error) = &target.error {
            html.element("p", &[class("notice")], |html| {
                html.text("It could not be measured to the end: ");
                html.foreign(error);
            });
        }
        html.element("div", &[class("hero")], |html| {
            verdict::verdict(html, target, sweeps.first());
            if let Some(sweep) = sweeps.first() {
                figures::throughput(html, target, sweep);
            }
        });
        verdict::bottleneck(html, target);
        if let Some(sweep) = sweeps.first() {
            drawings(html, target, sweep, &sweeps);
        }
        tables::points(html, target);
        tables::failures(html, target);
        tables::peers(html, target);
    });
}

fn drawings(html: &mut Html, target: &Target, sweep: &Sweep<'_>, sweeps: &[Sweep<'_>]) {
    let chosen = sweep.chosen(target.knee.as_ref().map(|knee| knee.sessions));
    html.leaf("h3", &[], "Latency and cost");
    html.element("div", &[class("figures")], |html| {
        for sweep in sweeps {
            figures::latency(html, sweep);
        }
        figures::distribution(html, &chosen);
        figures::shares(html, sweep);
        figures::cost(html, target, sweep);
    });
    let points: Vec<_> = sweeps.iter().flat_map(|sweep| sweep.points.iter().copied()).collect();
    figures::timelines(html, &points, &chosen);
}

/// What the target is, in a line.
fn about(html: &mut Html, target: &Target) {
    html.element("p", &[class("sub")], |html| {
        html.text(kind(target.kind));
        html.text(" ");
        html.element("code", &[], |html| html.foreign(&target.name));
        if let Some(url) = target.url.as_deref().filter(|url| *url != target.name) {
            html.text(" at ");
            link(html, url);
        }
        for version in target.versions.iter().take(VERSIONS_MAX) {
            html.text(" · ");
            html.foreign(version);
        }
        let fingerprint = target.fingerprint.as_deref().unwrap_or(NONE);
        html.text(" · fingerprint ");
        html.element("code", &[], |html| html.foreign(fingerprint));
    });
}

/// A link where it leads to the web, and else text.
fn link(html: &mut Html, url: &str) {
    if is_web_address(url) {
        let attributes = [text("href", url), fixed("rel", "noopener noreferrer")];
        html.element("a", &attributes, |html| html.foreign(url));
    } else {
        html.foreign(url);
    }
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Url => "A running server,",
        Kind::Served => "A server started for this,",
        Kind::Native => "A native environment,",
        Kind::Python => "A Python environment in worker processes,",
        Kind::OpenenvClass => "An OpenEnv class in worker processes,",
    }
}
