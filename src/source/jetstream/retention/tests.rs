use async_nats::jetstream::stream::{Config, Source, SubjectTransform};

use super::*;

fn limited() -> Config {
    Config {
        name: "ORDERS".to_owned(),
        subjects: vec!["orders.>".to_owned()],
        max_messages: 10,
        ..Default::default()
    }
}

fn keeps_of(config: &Config, subjects: &[&str]) -> Option<Keeps> {
    let subjects: Vec<String> = subjects.iter().map(|subject| (*subject).to_owned()).collect();
    keeps(config, &subjects)
}

#[test]
fn a_loss_is_counted_where_every_sequence_is_a_message_for_the_module_and_only_limits_remove_any() {
    let exactly = |config: &Config, subjects: &[&str]| keeps_of(config, subjects).map(|keeps| keeps.all);
    assert_eq!(exactly(&limited(), &[]), Some(true));
    assert_eq!(exactly(&limited(), &[">"]), Some(true));
    assert_eq!(exactly(&limited(), &["orders.>"]), Some(true));
    assert_eq!(exactly(&limited(), &["orders.*"]), Some(false));
    type Change = fn(&mut Config);
    let inexact: [(&str, Change); 7] = [
        ("mirror", |config| config.mirror = Some(Source::default())),
        ("max_msgs_per_subject", |config| config.max_messages_per_subject = 1),
        ("allow_rollup_hdrs", |config| config.allow_rollup = true),
        ("allow_msg_ttl", |config| config.allow_message_ttl = true),
        ("subject_delete_marker_ttl", |config| {
            config.subject_delete_marker_ttl = Some(Duration::from_secs(1));
        }),
        ("allow_msg_schedules", |config| config.allow_message_schedules = true),
        ("a mirror's filter", |config| {
            config.mirror = Some(Source {
                filter_subject: Some("orders.1".to_owned()),
                ..Default::default()
            });
        }),
    ];
    for (what, change) in inexact {
        let mut config = limited();
        change(&mut config);
        assert_eq!(exactly(&config, &[]), Some(false), "{what}");
    }
    let by_other_subjects: [(&str, Change); 3] = [
        ("a transform", |config| {
            config.subject_transform = Some(SubjectTransform {
                source: "orders.*".to_owned(),
                destination: "other.$1".to_owned(),
            });
        }),
        ("sources", |config| config.sources = Some(vec![Source::default()])),
        ("sources alone", |config| {
            config.subjects = Vec::new();
            config.sources = Some(vec![Source::default()]);
        }),
    ];
    for (what, change) in by_other_subjects {
        let mut config = limited();
        change(&mut config);
        assert_eq!(exactly(&config, &["orders.>"]), Some(false), "{what}");
        assert_eq!(exactly(&config, &[]), Some(true), "{what}, and no filter");
    }
    let nothing: [(&str, Change); 4] = [
        ("no limit", |config| config.max_messages = -1),
        ("work queue", |config| config.retention = RetentionPolicy::WorkQueue),
        ("interest", |config| config.retention = RetentionPolicy::Interest),
        ("a full stream takes no more", |config| {
            config.discard = DiscardPolicy::New
        }),
    ];
    for (what, change) in nothing {
        let mut config = limited();
        change(&mut config);
        assert_eq!(keeps_of(&config, &[]), None, "{what}");
    }
}
