use insta::assert_snapshot;

use super::*;

const COLUMNS: [Column; 5] = [
    Column::new("NAME").shrinks_to(6),
    Column::new("STATE"),
    Column::new("COUNT").left_out(2),
    Column::new("SINCE").left_out(1),
    Column::new("REASON").shrinks_to(12),
];

fn table() -> Table {
    let mut table = Table::new(COLUMNS);
    for (name, state, reason) in [
        ("orders", "running", ""),
        ("notifications", "halted", "the channel's namespace is unknown"),
        ("日本語の名前", "running", "x"),
    ] {
        let cells = [name, state, "1000000", "2026-11-01T08:00:00Z", reason];
        table.row(cells.map(Cell::from));
    }
    table
}

fn at(width: usize) -> View {
    View {
        width: Some(width),
        palette: Palette::default(),
    }
}

#[test]
fn a_table_is_whole_where_it_fits_and_in_a_pipe() {
    let whole = table().render(&View::default());
    assert_snapshot!(whole, @r"
    NAME           STATE    COUNT    SINCE                 REASON
    orders         running  1000000  2026-11-01T08:00:00Z
    notifications  halted   1000000  2026-11-01T08:00:00Z  the channel's namespace is unknown
    日本語の名前   running  1000000  2026-11-01T08:00:00Z  x
    ");
    assert_eq!(table().render(&at(200)), whole);
}

#[test]
fn columns_shrink_before_one_is_left_out() {
    assert_snapshot!(table().render(&at(70)), @r"
    NAME    STATE    COUNT    SINCE                 REASON
    orders  running  1000000  2026-11-01T08:00:00Z
    notif…  halted   1000000  2026-11-01T08:00:00Z  the channel's namespa…
    日本…   running  1000000  2026-11-01T08:00:00Z  x
    (shortened: NAME, REASON; a wider terminal or a pipe shows all)
    ");
    assert_snapshot!(table().render(&at(50)), @r"
    NAME    STATE    COUNT    REASON
    orders  running  1000000
    notif…  halted   1000000  the channel's namespace…
    日本…   running  1000000  x
    (left out: SINCE; shortened: NAME, REASON; a wider
    terminal or a pipe shows all)
    ");
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for width in 1..120 {
        for line in table().render(&at(width)).lines() {
            assert!(line.width() <= width, "{width}: {line:?}");
        }
    }
}

#[test]
fn the_last_column_may_wrap() {
    let columns = [Column::new(""), Column::new("").wraps_from(10)];
    let mut table = Table::new(columns);
    table.row(["orders", "the file is not a WebAssembly binary but text"].map(Cell::from));
    assert_snapshot!(table.render(&at(30)), @r"
    orders  the file is not a
            WebAssembly binary but
            text
    ");
    assert_snapshot!(table.render(&View::default()), @"orders  the file is not a WebAssembly binary but text");
}

#[test]
fn colours_take_no_room() {
    let mut table = Table::new([Column::new("A"), Column::new("B")]);
    let palette = Palette::coloured();
    table.row([Cell::styled("good", palette.good), Cell::from("x")]);
    let view = View {
        width: Some(7),
        palette,
    };
    let faint = palette.faint;
    let good = palette.good;
    assert_eq!(
        table.render(&view),
        format!("{faint}A{faint:#}     {faint}B{faint:#}\n{good}good{good:#}  x\n")
    );
}

#[test]
fn texts_are_wrapped_between_words() {
    let text = "orders is halted: 101 rejections\nbills is waiting\n";
    assert_eq!(View::default().wrap(text, 2), text);
    assert_snapshot!(at(20).wrap(text, 2), @r"
    orders is halted:
      101 rejections
    bills is waiting
    ");
    assert_eq!(wrapped("abcdef", 4), ["abcd", "ef"]);
}
