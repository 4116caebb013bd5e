//! Plots over time, as inline SVG.

use super::html::escaped;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 150.0;
/// Room for the numbers at the left, below, above and at the right.
const LEFT: f64 = 62.0;
const BELOW: f64 = 20.0;
const ABOVE: f64 = 8.0;
const RIGHT: f64 = 10.0;
/// Lines across, the lowest left out.
const STEPS: u32 = 4;
/// Dates along the time.
const DATES: usize = 4;

/// A value at a time, and what is said of it when it is pointed at.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    /// Seconds since 1970.
    pub(crate) time: i64,
    /// Not negative.
    pub(crate) value: f64,
    /// For people.
    pub(crate) said: String,
    /// The class of its colour.
    pub(crate) class: &'static str,
}

/// How values are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A line with what is below it filled.
    Curve,
    /// A bar for each.
    Bars,
}

/// A plot.
pub(crate) struct Plot<'a> {
    /// What it shows.
    pub(crate) title: &'a str,
    /// The values, oldest first.
    pub(crate) points: &'a [Point],
    /// How.
    pub(crate) style: Style,
    /// A value for people.
    pub(crate) unit: &'a dyn Fn(f64) -> String,
    /// The unit in which a value is a number that people would round.
    pub(crate) scale: &'a dyn Fn(f64) -> f64,
    /// A time for people, in short.
    pub(crate) date: &'a dyn Fn(i64) -> String,
}

impl Plot<'_> {
    /// The markup; nothing when there is nothing to show.
    pub(crate) fn svg(&self) -> String {
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else {
            return String::new();
        };
        let most = self.points.iter().map(|point| point.value).fold(0.0, f64::max);
        let scale = (self.scale)(most);
        let top = round_up(most / scale) * scale;
        let span = Span { first: first.time, last: last.time };
        let label = escaped(self.title);
        let mut svg =
            format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\">");
        for step in 0..=STEPS {
            let value = top * f64::from(step) / f64::from(STEPS);
            let y = height_of(value, top);
            let unit = escaped(&(self.unit)(value));
            svg += &format!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{unit}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
            );
        }
        svg += &self.dates(&span);
        svg += &match self.style {
            Style::Curve => self.curve(&span, top),
            Style::Bars => self.bars(&span, top),
        };
        svg + "</svg>"
    }

    fn dates(&self, span: &Span) -> String {
        let mut dates: Vec<(f64, String)> = Vec::new();
        for step in 0..DATES {
            #[expect(clippy::cast_precision_loss, reason = "a handful")]
            let share = step as f64 / (DATES - 1) as f64;
            let text = (self.date)(span.at(share));
            // Short histories would have the same date several times.
            if dates.last().is_none_or(|(_, before)| *before != text) {
                dates.push((share, text));
            }
        }
        let text = |(share, text): &(f64, String)| {
            let x = LEFT + share * (WIDTH - LEFT - RIGHT);
            let anchor = match *share {
                0.0 => "start",
                1.0 => "end",
                _ => "middle",
            };
            let y = HEIGHT - 5.0;
            format!(
                "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>",
                escaped(text)
            )
        };
        dates.iter().map(text).collect()
    }

    fn curve(&self, span: &Span, top: f64) -> String {
        let at = |point: &Point| (span.x(point.time, 0.0), height_of(point.value, top));
        let places: Vec<(f64, f64)> = self.points.iter().map(at).collect();
        let line: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let line = line.join(" ");
        let ground = height_of(0.0, top);
        let (left, right) =
            (places.first().map_or(LEFT, |p| p.0), places.last().map_or(LEFT, |p| p.0));
        let mut svg = format!(
            "<polygon class=\"area\" points=\"{left:.1},{ground} {line} {right:.1},{ground}\"/>\
             <polyline class=\"curve\" points=\"{line}\"/>"
        );
        // Many dots would hide the line; what they say is still there to be pointed at.
        let radius = if places.len() > 60 { 1.5 } else { 3.0 };
        for ((x, y), point) in places.iter().zip(self.points) {
            let said = escaped(&point.said);
            svg += &format!(
                "<circle class=\"{}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"><title>{said}</title></circle>",
                point.class
            );
        }
        svg
    }

    fn bars(&self, span: &Span, top: f64) -> String {
        #[expect(clippy::cast_precision_loss, reason = "thousands at most")]
        let room = (WIDTH - LEFT - RIGHT) / self.points.len() as f64;
        let wide = (room * 0.7).clamp(1.0, 14.0);
        let bar = |point: &Point| {
            let x = span.x(point.time, wide);
            let y = height_of(point.value, top);
            // Nothing is a bar, too: it says that there was a run.
            let high = (height_of(0.0, top) - y).max(2.0);
            let y = height_of(0.0, top) - high;
            let said = escaped(&point.said);
            format!(
                "<rect class=\"{}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{high:.1}\">\
                 <title>{said}</title></rect>",
                point.class
            )
        };
        self.points.iter().map(bar).collect()
    }
}

/// The time that a plot covers.
struct Span {
    first: i64,
    last: i64,
}

impl Span {
    /// Where a mark of this width for `time` begins.
    #[expect(clippy::cast_precision_loss, reason = "a place on a screen")]
    fn x(&self, time: i64, wide: f64) -> f64 {
        let room = WIDTH - LEFT - RIGHT - wide;
        match self.last - self.first {
            0 => LEFT + room / 2.0,
            whole => LEFT + room * ((time - self.first) as f64 / whole as f64),
        }
    }

    /// The time at a share of the way.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a date on a screen"
    )]
    fn at(&self, share: f64) -> i64 {
        self.first + ((self.last - self.first) as f64 * share) as i64
    }
}

fn height_of(value: f64, top: f64) -> f64 {
    let room = HEIGHT - ABOVE - BELOW;
    ABOVE + room * (1.0 - (value / top).clamp(0.0, 1.0))
}

/// A round number that is not less, and can be divided by the number of lines.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return f64::from(STEPS);
    }
    let power = 10f64.powf(value.log10().floor());
    let factors = [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 6.0, 8.0, 10.0];
    // What only rounding makes larger is not.
    let fits = |round: &f64| *round >= value * (1.0 - 1e-9);
    let found = factors.iter().map(|factor| factor * power).find(fits);
    found.unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svg(values: &[(i64, f64)], style: Style) -> String {
        let points: Vec<Point> = values
            .iter()
            .map(|&(time, value)| Point { time, value, said: "<x>".to_owned(), class: "dot" })
            .collect();
        let (unit, date) = (|value: f64| format!("{value}"), |time: i64| format!("{time}"));
        let scale = |_| 1.0;
        Plot { title: "a \"b\"", points: &points, style, unit: &unit, scale: &scale, date: &date }
            .svg()
    }

    #[test]
    fn every_value_is_drawn_inside_and_nothing_odd_comes_of_few_or_equal_ones() {
        for style in [Style::Curve, Style::Bars] {
            assert_eq!(svg(&[], style), "");
            for values in
                [&[(5, 0.0)][..], &[(5, 7.0), (5, 7.0)], &[(0, 1.0), (9, 1e15), (10, 0.0)]]
            {
                let drawn = svg(values, style);
                assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
                assert_eq!(drawn.matches("<title>&lt;x&gt;</title>").count(), values.len());
                for part in drawn.split("y=\"").skip(1) {
                    let y: f64 = part.split('"').next().unwrap().parse().unwrap();
                    assert!((0.0..=HEIGHT).contains(&y), "{drawn}");
                }
            }
        }
    }

    #[test]
    fn the_top_is_a_round_number() {
        for (value, top) in [(0.0, 4.0), (1.0, 1.0), (1.3, 1.6), (999.0, 1000.0), (0.021, 0.024)] {
            assert!((round_up(value) - top).abs() < 1e-9, "{value}: {}", round_up(value));
        }
    }
}
