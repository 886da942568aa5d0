//! The plot of cost against size: a panel for each of six operations, both axes logarithmic.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::cell::{Contestant, Row};
use crate::member::CredentialKind;
use crate::run::{Measured, Plan};

const SIZE: (u32, u32) = (1200, 800);

/// The height of the line that says which colour is whose.
const LEGEND: u32 = 50;

const PANELS: [(Row, &str); 6] = [
    (Row::CreateApart, "create the group, tree out of band"),
    (Row::JoinInside, "join it, tree in the Welcome"),
    (Row::FilledCreate, "create a commit"),
    (Row::FilledProcess, "process a commit"),
    (Row::FilledProcessStored, "process a commit, stored"),
    (Row::EncryptStored, "encrypt 100 bytes, stored"),
];

const OURS: RGBColor = RGBColor(0x0b, 0x6e, 0x4f);
const MLS_RS: RGBColor = RGBColor(0xd1, 0x6b, 0x0f);
const OPENMLS: RGBColor = RGBColor(0x5b, 0x4b, 0xa8);
const FLOOR: RGBColor = RGBColor(0x80, 0x80, 0x80);

/// A line of a panel: whose, in what colour, how thick.
struct Line {
    title: &'static str,
    color: RGBColor,
    width: u32,
    dashed: bool,
    value: fn(&Measured, Row, u32) -> Option<f64>,
}

const LINES: [Line; 4] = [
    Line {
        title: "OpenMLS",
        color: OPENMLS,
        width: 2,
        dashed: false,
        value: |measured, row, size| {
            let libcrux = measured.value(row, size, Contestant::OpenMlsLibcrux);
            let rust_crypto = measured.value(row, size, Contestant::OpenMlsRustCrypto);
            libcrux
                .into_iter()
                .chain(rust_crypto)
                .min_by(f64::total_cmp)
        },
    },
    Line {
        title: "mls-rs",
        color: MLS_RS,
        width: 2,
        dashed: false,
        value: |measured, row, size| measured.value(row, size, Contestant::MlsRs),
    },
    Line {
        title: "the primitives alone",
        color: FLOOR,
        width: 2,
        dashed: true,
        value: |measured, row, size| measured.floor(row, size, CredentialKind::Basic),
    },
    Line {
        title: "Folkmoot",
        color: OURS,
        width: 4,
        dashed: false,
        value: |measured, row, size| measured.value(row, size, Contestant::Ours),
    },
];

/// Why there is no plot.
#[derive(Debug, thiserror::Error)]
#[error("the plot cannot be drawn: {0}")]
pub struct PlotError(String);

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for PlotError {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        Self(error.to_string())
    }
}

/// Draws it into an SVG file.
///
/// # Errors
/// The file's.
pub fn write(plan: &Plan, measured: &Measured, file: &Path) -> Result<(), PlotError> {
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (legend, panels) = area.split_vertically(LEGEND);
    draw_legend(&legend)?;
    for (panel, (row, title)) in panels.split_evenly((2, 3)).iter().zip(PANELS) {
        draw_panel(panel, plan, measured, row, title)?;
    }
    area.present()?;
    Ok(())
}

fn draw_legend<B: DrawingBackend>(area: &DrawingArea<B, Shift>) -> Result<(), PlotError>
where
    B::ErrorType: 'static,
{
    let text = ("sans-serif", 18);
    let mut left = 40;
    for line in LINES.iter().rev() {
        let style = line.color.stroke_width(line.width);
        let (y, right) = (26, left + 36);
        match line.dashed {
            false => area.draw(&PathElement::new([(left, y), (right, y)], style))?,
            true => {
                for from in (left..right).step_by(10) {
                    area.draw(&PathElement::new([(from, y), (from + 6, y)], style))?;
                }
            }
        }
        area.draw(&Text::new(line.title, (right + 8, y - 9), text))?;
        left = right + 60 + 9 * line.title.len() as i32;
    }
    let axes = "CPU milliseconds against members";
    area.draw(&Text::new(axes, (SIZE.0 as i32 - 330, 17), text))?;
    Ok(())
}

fn draw_panel<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    plan: &Plan,
    measured: &Measured,
    row: Row,
    title: &str,
) -> Result<(), PlotError>
where
    B::ErrorType: 'static,
{
    let lines: Vec<(&Line, Vec<(f64, f64)>)> = LINES
        .iter()
        .map(|line| {
            let point = |size: &u32| Some((f64::from(*size), (line.value)(measured, row, *size)?));
            (line, plan.sizes.iter().filter_map(point).collect())
        })
        .collect();
    let costs = || {
        lines
            .iter()
            .flat_map(|(_, points)| points)
            .map(|(_, cost)| *cost)
    };
    let low = costs().min_by(f64::total_cmp).unwrap_or(0.01);
    let high = costs().max_by(f64::total_cmp).unwrap_or(1.0);
    let costs = low * 0.6..high * 1.6;
    let largest = plan.sizes.iter().copied().max().unwrap_or(2);
    let smallest = plan.sizes.iter().copied().min().unwrap_or(2);
    let sizes = f64::from(smallest)..f64::from(largest) * 1.2;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 19))
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(58)
        .build_cartesian_2d(sizes.log_scale(), costs.log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(0xdd, 0xdd, 0xdd))
        .label_style(("sans-serif", 14))
        .x_label_formatter(&|size| whole(*size))
        .y_label_formatter(&|cost| {
            if *cost >= 1.0 {
                whole(*cost)
            } else {
                cost.to_string()
            }
        })
        .draw()?;
    for (line, points) in lines {
        let style = line.color.stroke_width(line.width);
        if line.dashed {
            chart.draw_series(DashedLineSeries::new(points, 6, 4, style))?;
            continue;
        }
        let radius = line.width + 1;
        let dots = points.clone();
        chart.draw_series(LineSeries::new(points, style))?;
        let dot = |point| Circle::new(point, radius, line.color.filled());
        chart.draw_series(dots.into_iter().map(dot))?;
    }
    Ok(())
}

fn whole(value: f64) -> String {
    match value {
        value if value >= 1000.0 => {
            format!("{:.0},{:03.0}", (value / 1000.0).floor(), value % 1000.0)
        }
        value => format!("{value:.0}"),
    }
}
