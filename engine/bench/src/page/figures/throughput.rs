//! Steps a second, against sessions or against the rate that was asked for.

use crate::{
    page::{
        html::Html,
        numbers::{count, quantity, short},
        plot::{
            DOTS, Frame, Key, LINES, dot, drawing, figure, label_at, line, mark, x_axis, y_axis,
        },
        scale::Scale,
        sweep::{Against, Sweep, name_of},
        text::short_name,
    },
    report::{Peer, Target},
};

/// How many other clients are drawn; the table has all.
const PEERS_MAX: usize = 4;

/// The figure, in two sizes of which the stylesheet shows one.
pub(in crate::page) fn throughput(html: &mut Html, target: &Target, sweep: &Sweep<'_>) {
    let peers: Vec<&Peer> = match sweep.against {
        Against::Sessions => target.peers.iter().take(PEERS_MAX).collect(),
        Against::Rate => Vec::new(),
    };
    let mut keys = vec![Key::line("Envmill", LINES[0])];
    keys.extend(peers.iter().zip(&LINES[1..]).map(|(peer, look)| Key::line(&peer.name, look)));
    keys.push(match sweep.against {
        Against::Sessions => Key::line("in proportion to sessions", "line ideal"),
        Against::Rate => Key::line("all that was due", "line ideal"),
    });
    figure(html, "Throughput", "", &keys, |html| {
        draw(html, "wide", &Frame::LARGE, target, sweep, &peers);
        draw(html, "narrow", &Frame::MARKED, target, sweep, &peers);
    });
}

fn draw(
    html: &mut Html,
    look: &'static str,
    frame: &Frame,
    target: &Target,
    sweep: &Sweep<'_>,
    peers: &[&Peer],
) {
    let of_peers = || peers.iter().flat_map(|peer| &peer.points);
    let all_x = || sweep.values().chain(of_peers().map(|point| f64::from(point.sessions)));
    let all_y = sweep
        .points
        .iter()
        .map(|point| point.steps_per_s)
        .chain(of_peers().map(|point| point.steps_per_s));
    let xs: Vec<f64> = all_x().collect();
    let x = Scale::spread(xs.iter().copied(), frame.left, frame.right);
    let y = Scale::from_zero(all_y, frame.bottom, frame.top);
    let scales = (&x, &y);

    drawing(html, look, frame, "Throughput", &describe(sweep), |html| {
        y_axis(html, frame, &y, short, "steps/s");
        let ticks: Vec<f64> = sweep.values().collect();
        x_axis(html, frame, &x, &ticks, short, sweep.against.label());
        ideal(html, scales, sweep);
        if sweep.best().is_none() && peers.is_empty() {
            let middle = (frame.left.midpoint(frame.right), frame.top.midpoint(frame.bottom));
            label_at(html, "mark-word middle", middle.0, middle.1, "no step was answered");
        }
        if sweep.against == Against::Sessions {
            if let Some(knee) = &target.knee {
                let word = format!("knee {}", count(knee.sessions.into()));
                mark(html, "mark knee", frame, x.at(f64::from(knee.sessions)), 1, &word);
            }
            if let Some(cap) = target.session_cap {
                let word = format!("cap {}", count(cap.into()));
                mark(html, "mark cap", frame, x.at(f64::from(cap)), 0, &word);
            }
        }
        for (index, peer) in peers.iter().enumerate() {
            let mut points: Vec<_> = peer.points.iter().collect();
            points.sort_by_key(|point| point.sessions);
            let place = |sessions: u32, rate: f64| (f64::from(sessions), rate);
            let path = points.iter().map(|point| place(point.sessions, point.steps_per_s));
            line(html, LINES[index + 1], scales, path);
            for point in points {
                let tooltip = format!(
                    "{}, {} sessions: {} steps/s",
                    short_name(&peer.name),
                    count(point.sessions.into()),
                    quantity(point.steps_per_s)
                );
                let at = place(point.sessions, point.steps_per_s);
                dot(html, DOTS[index + 1], scales, at, &tooltip);
            }
        }
        line(html, LINES[0], scales, sweep.curve(|point| point.steps_per_s));
        for point in &sweep.points {
            let tooltip = format!("{}: {} steps/s", name_of(point), quantity(point.steps_per_s));
            dot(html, DOTS[0], scales, (sweep.against.of(point), point.steps_per_s), &tooltip);
        }
    });
}

/// What there would be if each session brought as much as those of the first point, or all that was due.
fn ideal(html: &mut Html, (x, y): (&Scale, &Scale), sweep: &Sweep<'_>) {
    const PIECES: u32 = 96;
    let Some(first) = sweep.points.iter().find(|point| point.steps > 0) else { return };
    let start = sweep.against.of(first);
    let slope = match sweep.against {
        Against::Sessions => first.steps_per_s / start,
        Against::Rate => 1.0,
    };
    let end = x.ends().1;
    let path = (0..=PIECES)
        .map(|piece| x.between_values(start, end, f64::from(piece) / f64::from(PIECES)))
        .map(|value| (value, value * slope));
    line(html, "line ideal", (x, y), path);
}

fn describe(sweep: &Sweep<'_>) -> String {
    match sweep.best() {
        None => "No step was answered.".to_owned(),
        Some(best) => format!(
            "Steps a second over {} points, the most being {} with {}. The table of points has all.",
            sweep.points.len(),
            quantity(best.steps_per_s),
            name_of(best)
        ),
    }
}
