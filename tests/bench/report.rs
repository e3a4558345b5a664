//! The figures for a person.

use std::fmt::Write;

use crate::figures::{Conditions, Copy, Figures, Follow, TIMES_MIRROR, TOLERANCE, Verdict};
use crate::tool::Kind;

/// What was compared, and how.
pub(crate) fn conditions(conditions: &Conditions) -> String {
    let extra = match conditions.syncer_args.as_slice() {
        [] => String::new(),
        args => format!("\netcd-syncer with {}", args.join(" ")),
    };
    let disks = match conditions.fsync {
        true => "All members wait for their disks, as etcd does by default.",
        false => "--unsafe-no-fsync on ALL clusters: no disk is waited for, by anybody.",
    };
    format!(
        "etcd {}, primary of {} member(s), standby of 1, {} processor(s) shared by all processes.\n\
         {disks}\n\
         {} writers, new keys, values of {} bytes; {} round(s) of {} s for each tool.{extra}",
        conditions.etcd,
        conditions.primary_members,
        conditions.processors,
        conditions.writers,
        conditions.value_bytes,
        conditions.rounds,
        conditions.load_seconds,
    )
}

/// Everything.
pub(crate) fn table(figures: &Figures) -> String {
    let mut text = format!("\n{}\n", conditions(&figures.conditions));
    copies(&mut text, figures);
    if let Some(judged) = &figures.verdict {
        follows(&mut text, figures);
        ceilings(&mut text, figures);
        verdict(&mut text, judged);
    }
    line(&mut text, &format!("\ntook {:.0} s", figures.took_seconds));
    text
}

fn line(text: &mut String, what: &str) {
    text.push_str(what.trim_end());
    text.push('\n');
}

/// A label and a cell for each column.
fn row(text: &mut String, label: &str, cells: impl IntoIterator<Item = String>) {
    let mut row = format!("  {label:<36}");
    for cell in cells {
        // A string takes whatever is written to it.
        let _ = write!(row, " {cell:>14}");
    }
    line(text, &row);
}

fn copies(text: &mut String, figures: &Figures) {
    let keys = figures.conditions.keys;
    line(
        text,
        &format!("\nFirst copy of {keys} keys of a primary whose log is cut"),
    );
    let all = &figures.copy;
    let cells = |show: fn(&Copy) -> String| all.iter().map(show).collect::<Vec<_>>();
    row(text, "", cells(|copy| copy.tool.name().to_owned()));
    row(
        text,
        "time, s",
        cells(|copy| match copy.complete {
            true => format!("{:.1}", copy.seconds),
            false => format!("> {:.0}", copy.seconds),
        }),
    );
    row(text, "keys copied", cells(|copy| copy.keys.to_string()));
    row(
        text,
        "keys/s",
        cells(|copy| format!("{:.0}", copy.keys_per_second)),
    );
    if let [syncer, mirror] = all.as_slice() {
        let times = syncer.keys_per_second / mirror.keys_per_second;
        row(text, "times make-mirror", [format!("{times:.1}")]);
    }
    row(
        text,
        "CPU of the tool, s",
        cells(|copy| format!("{:.1}", copy.usage.cpu_seconds)),
    );
    row(
        text,
        "peak memory of the tool, MiB",
        cells(|copy| mebibytes(copy.usage.peak_rss_bytes)),
    );
}

fn follows(text: &mut String, figures: &Figures) {
    line(
        text,
        "\nFollowing a primary at full load (means of the rounds; max and memory: the largest)",
    );
    let all = &figures.mean;
    let cells = |show: fn(&Follow) -> String| all.iter().map(show).collect::<Vec<_>>();
    let tools = |show| of_tools(all, show);
    row(text, "", cells(|phase| phase.tool.name().to_owned()));
    row(
        text,
        "primary took, writes/s",
        cells(|p| rate(p.primary_writes_per_second)),
    );
    row(
        text,
        "standby got meanwhile, writes/s",
        tools(|p| rate(p.standby_writes_per_second)),
    );
    row(
        text,
        "same, with the time to catch up",
        tools(|p| rate(p.whole_writes_per_second)),
    );
    let lag = |phase: &Follow| phase.lag.unwrap_or_default();
    row(
        text,
        "lag p50, ms",
        all.iter().map(|p| milliseconds(p, lag(p).p50_seconds)),
    );
    row(
        text,
        "lag p99, ms",
        all.iter().map(|p| milliseconds(p, lag(p).p99_seconds)),
    );
    row(
        text,
        "lag max, ms",
        all.iter().map(|p| milliseconds(p, lag(p).max_seconds)),
    );
    row(
        text,
        "behind at the end, writes",
        tools(|p| p.behind_at_end.to_string()),
    );
    row(
        text,
        "then caught up after, s",
        tools(|p| {
            p.caught_up_seconds
                .map_or("not in time".into(), |s| format!("{s:.2}"))
        }),
    );
    row(
        text,
        "keys lost",
        tools(|p| p.lost.map_or("?".into(), |lost| lost.to_string())),
    );
    costs(text, all);
}

/// What it cost, as the rest of the same table.
fn costs(text: &mut String, all: &[Follow]) {
    let cells = |show: fn(&Follow) -> String| all.iter().map(show).collect::<Vec<_>>();
    let tools = |show| of_tools(all, show);
    row(
        text,
        "CPU of the primary, s",
        cells(|p| format!("{:.1}", p.primary_cpu_seconds)),
    );
    row(
        text,
        "CPU of the standby, s",
        cells(|p| format!("{:.1}", p.standby_cpu_seconds)),
    );
    row(
        text,
        "CPU of the tool, s",
        tools(|p| format!("{:.1}", p.usage.cpu_seconds)),
    );
    row(
        text,
        "peak memory of the tool, MiB",
        tools(|p| mebibytes(p.usage.peak_rss_bytes)),
    );
    row(
        text,
        "writes in a batch, mean",
        tools(|p| {
            p.ops_per_batch
                .map_or("-".into(), |ops| format!("{ops:.0}"))
        }),
    );
    row(
        text,
        "writes in a batch, max",
        tools(|p| {
            p.largest_batch_ops
                .map_or("-".into(), |ops| ops.to_string())
        }),
    );
}

/// Cells, with a dash where a phase without a tool has no figure.
fn of_tools(all: &[Follow], show: fn(&Follow) -> String) -> Vec<String> {
    let cell = |phase: &Follow| match phase.tool {
        Kind::None => "-".to_owned(),
        Kind::Syncer | Kind::Mirror => show(phase),
    };
    all.iter().map(cell).collect()
}

fn rate(per_second: f64) -> String {
    format!("{per_second:.0}")
}

fn milliseconds(phase: &Follow, seconds: f64) -> String {
    match phase.lag {
        None => "-".to_owned(),
        Some(lag) if lag.missing > 0 => format!("> {:.0}", seconds * 1e3),
        Some(_) => format!("{:.1}", seconds * 1e3),
    }
}

fn mebibytes(bytes: u64) -> String {
    (bytes >> 20).to_string()
}

fn ceilings(text: &mut String, figures: &Figures) {
    line(
        text,
        "\nCeiling: a standby that nothing but transactions of puts is sent to, keys/s",
    );
    for ceiling in &figures.ceiling {
        let label = format!("{} puts each, {} in flight", ceiling.ops, ceiling.in_flight);
        row(text, &label, [rate(ceiling.keys_per_second)]);
    }
}

fn verdict(text: &mut String, verdict: &Verdict) {
    let said = |met| if met { "MET" } else { "NOT MET" };
    line(text, "\nRatios of the sustained rate of etcd-syncer");
    line(
        text,
        &format!("  {:.1} times make-mirror's", verdict.times_mirror),
    );
    line(
        text,
        &format!(
            "  {:.1} % of what the primary took meanwhile",
            verdict.of_primary * 100.0
        ),
    );
    line(
        text,
        &format!(
            "  {:.1} % of what the primary takes with no tool and no standby at work on the same \
             processors",
            verdict.of_primary_alone * 100.0
        ),
    );
    line(
        text,
        &format!(
            "\nAt least {TIMES_MIRROR:.0} times make-mirror's rate or the primary's full rate, \
             whichever is less (within {:.0} %):\n  {:<8} with the rate that the primary had \
             meanwhile\n  {:<8} with the rate that it has alone",
            TOLERANCE * 100.0,
            said(verdict.met),
            said(verdict.met_against_primary_alone),
        ),
    );
}
