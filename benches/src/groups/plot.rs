//! The plot: complete groups held over time, a panel for each tail.

use std::{error::Error, path::Path};

use plotters::prelude::*;

/// One tail: its name, and each policy's name with the times at which it held a group.
#[derive(Clone, Debug)]
pub struct Panel {
    /// The title.
    pub name: String,
    /// Each line: its name and, for each group, seconds.
    pub lines: Vec<(String, Vec<f64>)>,
}

const COLOURS: [RGBColor; 6] = [
    RGBColor(190, 60, 50),
    RGBColor(215, 150, 40),
    RGBColor(40, 110, 180),
    RGBColor(40, 150, 110),
    RGBColor(130, 130, 130),
    RGBColor(60, 60, 60),
];

/// Writes the panels side by side as SVG.
///
/// # Errors
///
/// If the file cannot be written.
pub fn draw(path: &Path, panels: &[Panel]) -> Result<(), Box<dyn Error + Send + Sync>> {
    let area = SVGBackend::new(path, (420 * panels.len() as u32, 380)).into_drawing_area();
    area.fill(&WHITE)?;
    for (panel, area) in panels.iter().zip(area.split_evenly((1, panels.len()))) {
        let times = panel.lines.iter().flat_map(|(_, held)| held);
        let longest = times.copied().fold(0.0, f64::max);
        let most = panel.lines.iter().map(|(_, held)| held.len()).max().unwrap_or_default();
        let mut chart = ChartBuilder::on(&area)
            .caption(&panel.name, ("sans-serif", 16))
            .margin(10)
            .x_label_area_size(36)
            .y_label_area_size(46)
            .build_cartesian_2d(0.0..longest, 0.0..most as f64)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc("virtual seconds")
            .y_desc("complete groups held")
            .draw()?;
        for ((name, held), colour) in panel.lines.iter().zip(COLOURS) {
            let points = held.iter().enumerate().map(|(index, at)| (*at, (index + 1) as f64));
            let line =
                LineSeries::new(std::iter::once((0.0, 0.0)).chain(points), colour.stroke_width(2));
            chart.draw_series(line)?.label(name).legend(move |(x, y)| {
                PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2))
            });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()?;
    }
    area.present()?;
    Ok(())
}
