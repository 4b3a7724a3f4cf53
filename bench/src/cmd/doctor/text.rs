//! The doctor's report for people.

use super::aa::Noise;
use super::findings::{Finding, State};
use super::lost::Lost;
use crate::measure::machine::Machine;
use crate::tables;

const INDENT: usize = 19;

/// All of it.
pub(crate) fn text(
    machine: &Machine,
    findings: &[Finding],
    clock_ns: f64,
    lost: &Lost,
    noise: &[Noise],
) -> String {
    let mut text = format!("{}\n\n", tables::paragraph(&machine.line(), 0, 2));
    for f in findings {
        let mark = match f.state {
            State::Good => "ok",
            State::Bad => "BAD",
            State::Unknown => "?",
        };
        let says = tables::paragraph(&f.says, INDENT, INDENT);
        text += &format!("{mark:<5}{:<14}{}\n", f.id, says.trim_start());
        if let Some(advice) = f.advice {
            text += &format!("{}\n", tables::paragraph(&format!("-> {advice}"), INDENT, INDENT + 3));
        }
    }
    text += &format!(
        "\nclock      {clock_ns:.1} ns a reading, its smallest step {} ns: {:.2} % of a block of 20 us\n",
        lost.resolution_ns,
        100.0 * clock_ns / 20_000.0
    );
    text +=
        "\nA cell against itself, taken apart (standard deviations in per cent; launches for an effect)\n";
    let header = ["", "a / a", "round", "launch", "both", "1 %", "2 %", "5 %"];
    let mut table = tables::table(header.map(str::to_owned).to_vec());
    for n in noise {
        let ratio = n.ratio.map_or_else(String::new, |e| match (e.lo, e.hi) {
            (Some(lo), Some(hi)) => format!("{:.4} [{lo:.4}..{hi:.4}]", e.value),
            _ => format!("{:.4}", e.value),
        });
        let id = n.id.split("/none/").next().unwrap_or(&n.id).to_owned();
        let mut row = vec![id, ratio];
        row.extend([n.within_percent, n.between_percent, n.launch_percent].map(|x| format!("{x:.2}")));
        row.extend(n.needed.iter().map(|(_, n)| n.map_or_else(|| "> 2000".to_owned(), |n| n.to_string())));
        table.add_row(row);
    }
    text += &tables::lines(&table);
    let (launches, rounds) = noise.first().map_or((0, 0.0), |n| (n.launches, n.rounds));
    text += &format!(
        "\nround      around its launch; launch: beyond what its rounds explain; both: of the median of {rounds:.0}\n\
         launches   that find the effect four times out of five, from {launches} launches seen here; six at least\n"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_fits_100_columns() {
        let machine = crate::results::testing::run().machine;
        let says = "word ".repeat(60);
        let advice = Some(
            "an advice that is rather long, so that it has to go over to another line to be read, or two",
        );
        let findings = [State::Good, State::Bad, State::Unknown].map(|state| Finding {
            id: "something",
            state,
            says: says.clone(),
            advice,
        });
        let noise = Noise {
            id: "absent_4k@16MiB/fault_write/512/none/1/map_order".to_owned(),
            launches: 12,
            rounds: 24.0,
            ratio: crate::stats::estimate(&[0.01, 0.02, 0.0, 0.015, -0.01, 0.03]),
            within_percent: 12.5,
            between_percent: 0.33,
            launch_percent: 3.0,
            needed: vec![(1.0, None), (2.0, Some(120)), (5.0, Some(6))],
        };
        let text = text(&machine, &findings, 22.57, &Lost::default(), &[noise]);
        assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
        assert!(
            text.contains("BAD  something") && text.contains("> 2000") && text.contains("-> an advice"),
            "{text}"
        );
    }
}
