//! What stands above and below the targets: the title, the command, the comparison, how it was measured.

use super::{
    figures,
    html::{Html, class, fixed, text},
    numbers::{NONE, bytes, count, moment, quantity, seconds},
    sweep::Sweep,
    target::anchor,
    text::{shell, short_name},
    verdict,
};
use crate::report::{Largest, Report, Target};

/// What the report is about.
pub(super) fn title(report: &Report) -> String {
    match report.targets.as_slice() {
        [] => "Nothing was measured".to_owned(),
        [target] => short_name(name_of(target)).into_owned(),
        [one, other] => {
            let is_told_apart = name_of(one) != name_of(other);
            let name = |target| if is_told_apart { name_of(target) } else { &target.name };
            format!("{} and {}", short_name(name(one)), short_name(name(other)))
        }
        targets => format!("{} targets", targets.len()),
    }
}

/// The environment's name where the server tells it, and else what was given.
pub(super) fn name_of(target: &Target) -> &str {
    target.environment.as_deref().filter(|name| !name.is_empty()).unwrap_or(&target.name)
}

/// The title, when and with what it was measured, and the command.
pub(super) fn header(html: &mut Html, report: &Report) {
    html.element("header", &[], |html| {
        html.leaf("p", &[class("eyebrow")], "envmill bench");
        html.element("h1", &[], |html| html.foreign(&title(report)));
        html.element("p", &[class("sub")], |html| {
            html.text(&format!(
                "{} · took {} · seed {} · Envmill ",
                moment(report.started_unix_ms),
                seconds(report.took_s),
                report.settings.seed
            ));
            html.foreign(&report.envmill_version);
        });
        if report.interrupted {
            let words = "It was interrupted: here is what was measured until then.";
            html.leaf("p", &[class("notice")], words);
        }
        let scrolls = [class("command"), fixed("tabindex", "0"), fixed("aria-label", "Command")];
        html.element("pre", &scrolls, |html| html.leaf("code", &[], &shell(&report.command)));
    });
    if report.targets.is_empty() {
        html.leaf("p", &[class("notice")], "There is no target in this report.");
    }
}

/// All targets beside each other, where there are several.
pub(super) fn comparison(html: &mut Html, report: &Report) {
    if report.targets.len() < 2 {
        return;
    }
    html.element("section", &[], |html| {
        html.leaf("h2", &[], "Compared");
        figures::comparison(html, &report.targets);
        html.element("div", &[class("scroll"), fixed("tabindex", "0")], |html| {
            html.element("table", &[], |html| {
                html.element("thead", &[], |html| {
                    html.element("tr", &[], |html| {
                        let words = [fixed("scope", "col"), class("words")];
                        html.leaf("th", &words, "target");
                        for name in ["most steps/s", "knee", "≥ 95 %", "100 %", "cap"] {
                            html.leaf("th", &[fixed("scope", "col")], name);
                        }
                        html.leaf("th", &words, "held back by");
                    });
                });
                html.element("tbody", &[], |html| {
                    for (index, target) in report.targets.iter().enumerate() {
                        row(html, target, index);
                    }
                });
            });
        });
    });
}

fn row(html: &mut Html, target: &Target, index: usize) {
    let best = Sweep::all_of(target).first().and_then(Sweep::best).map(|point| point.steps_per_s);
    let sessions = |number: Option<u32>| number.map_or(NONE.to_owned(), |n| count(n.into()));
    let largest = |largest: Option<Largest>| sessions(largest.map(|largest| largest.sessions));
    html.element("tr", &[], |html| {
        html.element("th", &[fixed("scope", "row"), class("words")], |html| {
            let link = format!("#{}", anchor(index));
            html.element("a", &[text("href", &link)], |html| html.foreign(&target.name));
        });
        html.leaf("td", &[], &best.map_or(NONE.to_owned(), quantity));
        html.leaf("td", &[], &sessions(target.knee.as_ref().map(|knee| knee.sessions)));
        html.leaf("td", &[], &largest(target.largest_95));
        html.leaf("td", &[], &largest(target.largest_100));
        html.leaf("td", &[], &sessions(target.session_cap));
        html.element("td", &[class("words")], |html| {
            html.foreign(verdict::name_of(&target.bottleneck.what));
        });
    });
}

/// The machine and the settings, and how to read all this.
pub(super) fn how(html: &mut Html, report: &Report) {
    let (machine, settings) = (&report.machine, &report.settings);
    html.element("section", &[], |html| {
        html.leaf("h2", &[], "How it was measured");
        html.element("div", &[class("columns")], |html| {
            facts(html, "Machine", |html| {
                fact(html, "Processor", &machine.processor);
                fact(html, "Hardware threads", &machine.threads.to_string());
                fact(html, "Memory", &bytes(machine.memory_bytes as f64));
                fact(html, "System", &machine.system);
                fact(html, "Load before", &quantity(machine.load_before));
            });
            facts(html, "Settings", |html| {
                fact(html, "Seed", &settings.seed.to_string());
                fact(html, "Policy", &settings.policy);
                fact(html, "Warm-up of each point", &seconds(settings.warm_up_s));
                fact(html, "Measured at each point", &seconds(settings.measure_s));
                let steps = settings.max_steps.map_or("no limit".to_owned(), |n| count(n.into()));
                fact(html, "Steps of an episode", &steps);
                for (name, value) in &settings.other {
                    fact(html, name, &value.to_string());
                }
            });
        });
        let words = "A session is one instance of the environment, which plays episodes one after another. \
                     Steps count when they are answered. Percentiles are of all steps after the warm-up; the \
                     corrected ones contain what requests would have seen that a slow answer kept from being \
                     sent. Dots tell their numbers when they are pointed at, and the tables have them all.";
        html.leaf("p", &[class("prose")], words);
    });
}

/// A list of facts with a heading.
pub(super) fn facts(html: &mut Html, heading: &str, inside: impl FnOnce(&mut Html)) {
    html.element("div", &[], |html| {
        html.leaf("h3", &[], heading);
        html.element("dl", &[], inside);
    });
}

/// A name and what is known by it; nothing where nothing is.
pub(super) fn fact(html: &mut Html, name: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    html.element("dt", &[], |html| html.foreign(name));
    html.element("dd", &[], |html| html.foreign(value));
}
