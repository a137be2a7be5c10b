//! A bar chart of the wall times (SVG 1.1).

use super::Round;

/// Width in pixels.
const WIDTH: f64 = 900.0;
const NAMES: f64 = 220.0;
const FIGURES: f64 = 80.0;
const BAR: f64 = 16.0;
const LINE: f64 = 20.0;
const TITLE: f64 = 30.0;
const COLORS: [&str; 2] = ["#2a7f62", "#9aa5b1"];

/// One group of bars for each image, each with its own scale.
pub(super) fn drawn(rounds: &[Round]) -> String {
    let mut body = String::new();
    let mut y = 0.0;
    for round in rounds {
        y += TITLE;
        text(&mut body, 10.0, y - 8.0, &format!("{} (wall seconds)", round.kind.describe()), "bold");
        let longest = round.pulls.iter().map(|(_, samples)| samples.wall.median()).fold(0.001, f64::max);
        for (number, (contender, samples)) in round.pulls.iter().enumerate() {
            let (seconds, color) = (samples.wall.median(), COLORS[number.min(1)]);
            let width = (WIDTH - NAMES - FIGURES) * seconds / longest;
            text(&mut body, 10.0, y + BAR - 3.0, &contender.name().replace('`', ""), "normal");
            body += &format!(
                "<rect x=\"{NAMES}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{color}\"/>\n"
            );
            text(&mut body, NAMES + width + 6.0, y + BAR - 3.0, &format!("{seconds:.2}"), "normal");
            y += LINE;
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n",
        height = y + 10.0
    )
}

fn text(body: &mut String, x: f64, y: f64, text: &str, weight: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    *body += &format!("<text x=\"{x:.1}\" y=\"{y:.1}\" font-weight=\"{weight}\">{text}</text>\n");
}
