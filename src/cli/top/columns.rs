//! The columns of the table: which ones fit, and what is in them.

use super::relay::{Relay, Row};
use super::units;

/// In the order of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    Name,
    State,
    For,
    Received,
    Published,
    Course,
    Backlog,
    Age,
    P50,
    P99,
    Rejected,
    Version,
}

/// The most important first.
const IMPORTANCE: [Column; 12] = [
    Column::Name,
    Column::State,
    Column::Published,
    Column::Course,
    Column::Backlog,
    Column::Age,
    Column::P99,
    Column::Rejected,
    Column::P50,
    Column::Version,
    Column::Received,
    Column::For,
];

/// Enough for the title. Longer names get what is left.
const NAME: u16 = 7;
const LONG_NAME: u16 = 20;

/// Those that divide the minute that is shown.
const COURSES: [u16; 6] = [60, 30, 20, 15, 12, 10];

impl Column {
    pub fn title(self) -> &'static str {
        match self {
            Self::Name => "MODULE",
            Self::State => "STATE",
            Self::For => "FOR",
            Self::Received => "IN/S",
            Self::Published => "PUB/S",
            Self::Course => "LAST 60 S",
            Self::Backlog => "BACKLOG",
            Self::Age => "AGE",
            Self::P50 => "P50",
            Self::P99 => "P99",
            Self::Rejected => "REJECTED",
            Self::Version => "VERSION",
        }
    }

    pub fn is_number(self) -> bool {
        !matches!(self, Self::Name | Self::State | Self::Course | Self::Version)
    }

    /// Returns the least width. It has room for the title and the arrow of the order.
    fn width(self) -> u16 {
        match self {
            Self::Name => NAME,
            Self::State | Self::Backlog => 8,
            Self::For | Self::Age => 5,
            Self::Received | Self::Published => 7,
            Self::Course => COURSES[COURSES.len() - 1],
            Self::P50 | Self::P99 => 6,
            Self::Rejected => 9,
            Self::Version => 12,
        }
    }

    pub fn text(self, row: &Row<'_>, relay: &Relay, width: u16) -> String {
        let Row { status, sample, course } = row;
        match self {
            Self::Name => status.name.clone(),
            Self::State => status.state.to_string(),
            Self::For => units::seconds(relay.since(&status.since)),
            Self::Received => units::rate(sample.received),
            Self::Published => units::rate(sample.published),
            Self::Course => course.map_or_else(String::new, |course| course.draw(width.into())),
            Self::Backlog => units::count(row.backlog()),
            Self::Age => units::seconds(sample.lag_seconds.map(f64::from).or(status.lag_seconds)),
            Self::P50 => units::milliseconds(sample.latency_p50_ms),
            Self::P99 => units::milliseconds(sample.latency_p99_ms),
            Self::Rejected => units::count(Some(status.rejected)),
            Self::Version => status
                .sha256
                .as_deref()
                .map_or("-", |hash| hash.get(..12).unwrap_or(hash))
                .to_owned(),
        }
    }
}

impl Row<'_> {
    pub fn backlog(&self) -> Option<u64> {
        self.sample.lag_messages.or(self.status.lag_messages)
    }
}

/// Returns the columns that fit, with their widths. There is a space between two.
pub fn fitting(width: u16, longest_name: u16) -> Vec<(Column, u16)> {
    let mut columns = Vec::new();
    let name = longest_name.clamp(NAME, LONG_NAME);
    // The first has no space before it.
    let mut left = width + 1;
    for column in IMPORTANCE {
        let width = if column == Column::Name { name } else { column.width() };
        let Some(rest) = left.checked_sub(width + 1) else {
            break;
        };
        left = rest;
        columns.push((column, width));
    }
    columns.sort_unstable_by_key(|(column, _)| *column);
    for (column, width) in &mut columns {
        let wanted = match column {
            Column::Name => longest_name,
            Column::Course => {
                let fits = COURSES.into_iter().find(|course| *course <= *width + left);
                fits.unwrap_or(*width)
            }
            _ => continue,
        };
        let more = wanted.saturating_sub(*width).min(left);
        *width += more;
        left -= more;
    }
    columns
}

#[cfg(test)]
mod tests {
    use insta::assert_debug_snapshot;

    use super::super::sparkline::SECONDS;
    use super::*;

    fn names(width: u16, longest_name: u16) -> Vec<&'static str> {
        let columns = fitting(width, longest_name).into_iter();
        columns.map(|(column, _)| column.title()).collect()
    }

    #[test]
    fn what_matters_most_stays_longest() {
        for width in 0..300 {
            for longest_name in [0, 6, 15, 40, 200] {
                let columns = fitting(width, longest_name);
                let total: u16 = columns.iter().map(|(_, width)| width + 1).sum();
                assert!(total <= width + 1, "{width} {longest_name} {columns:?}");
                let course = columns.iter().find(|(column, _)| *column == Column::Course);
                if let Some((_, width)) = course {
                    assert_eq!(SECONDS % usize::from(*width), 0);
                }
            }
        }
        assert_debug_snapshot!(names(58, 6).join(" "), @r#"
        "MODULE STATE PUB/S LAST 60 S BACKLOG AGE P99"
        "#);
        assert_debug_snapshot!(names(58, 30).join(" "), @r#"
        "MODULE STATE PUB/S LAST 60 S BACKLOG"
        "#);
        assert_debug_snapshot!(names(78, 6).join(" "), @r#"
        "MODULE STATE PUB/S LAST 60 S BACKLOG AGE P50 P99 REJECTED"
        "#);
        assert_debug_snapshot!(names(118, 6).join(" "), @r#"
        "MODULE STATE FOR IN/S PUB/S LAST 60 S BACKLOG AGE P50 P99 REJECTED VERSION"
        "#);
        assert_eq!(names(300, 6).len(), IMPORTANCE.len());
    }

    #[test]
    fn a_title_has_room_for_the_arrow_of_the_order() {
        for column in IMPORTANCE {
            let needed = column.title().len() + usize::from(column != Column::Course);
            assert!(usize::from(column.width()) >= needed, "{column:?}");
        }
    }
}
