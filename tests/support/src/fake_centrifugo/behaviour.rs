//! What the fake Centrifugo does with a request: chosen by the test, or drawn from a seed.

use std::time::Duration;

use super::store::Batch;

/// What happens to one request.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The delay before anything is executed. Other requests continue meanwhile and may overtake this one.
    pub delay: Duration,
    /// What each command does. Commands beyond the end of the list are executed.
    pub commands: Vec<OnCommand>,
    /// The delay between execution and answer.
    pub answer_delay: Duration,
    pub answer: Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCommand {
    Execute,
    /// Answered with this code and not executed.
    Fail(u32),
    /// Executed, but answered with this code. Error 100 may mean this when Centrifugo's engine timed out.
    ExecuteAndFail(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// HTTP 200 with one reply per command.
    Replies,
    /// This HTTP status and an empty body; over GRPC, the status that means the same.
    Status { status: u16, executed: bool },
    /// No answer until the client gives up.
    Silence { executed: bool },
    /// Half an answer, or none over GRPC. Then the connection breaks, with all other requests on it.
    Cut { executed: bool },
}

impl Plan {
    pub fn execute() -> Self {
        Self {
            delay: Duration::ZERO,
            commands: Vec::new(),
            answer_delay: Duration::ZERO,
            answer: Answer::Replies,
        }
    }

    /// Every command of the batch does the same.
    pub fn each(batch: &Batch, on_command: OnCommand) -> Self {
        Self {
            commands: vec![on_command; batch.commands.len()],
            ..Self::execute()
        }
    }

    pub fn answer(answer: Answer) -> Self {
        Self {
            answer,
            ..Self::execute()
        }
    }

    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    pub(super) fn executes(&self) -> bool {
        match self.answer {
            Answer::Replies => true,
            Answer::Status { executed, .. } | Answer::Silence { executed } | Answer::Cut { executed } => executed,
        }
    }
}

/// How often each fault happens, from 0 to 1.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// The share of commands with error 100, in half of them after executing.
    pub internal_error: f64,
    /// The share of requests with HTTP 500, in half of them after executing.
    pub status_500: f64,
    /// The share of requests without an answer, in half of them after executing.
    pub silence: f64,
    /// The share of requests with a broken connection, in half of them after executing.
    pub cut: f64,
    /// The share of requests that are executed or answered late, each by up to `delay`.
    pub late: f64,
    pub delay: Duration,
}

impl Faults {
    /// Every kind of fault, each in one of twenty.
    pub fn mixed() -> Self {
        Self {
            internal_error: 0.05,
            status_500: 0.05,
            silence: 0.05,
            cut: 0.05,
            late: 0.05,
            delay: Duration::from_millis(50),
        }
    }

    /// Returns the behaviour with these faults, drawn from `seed`. The same requests in the same order get
    /// the same faults.
    pub fn seeded(self, seed: u64) -> impl FnMut(&Batch) -> Plan + Send + 'static {
        let mut random = fastrand::Rng::with_seed(seed);
        move |batch| self.draw(batch, &mut random)
    }

    fn draw(&self, batch: &Batch, random: &mut fastrand::Rng) -> Plan {
        let commands = batch.commands.iter().map(|_| match random.f64() < self.internal_error {
            true if random.bool() => OnCommand::ExecuteAndFail(100),
            true => OnCommand::Fail(100),
            false => OnCommand::Execute,
        });
        let mut plan = Plan {
            commands: commands.collect(),
            ..Plan::execute()
        };
        if random.f64() < self.late {
            plan.delay = self.delay.mul_f64(random.f64());
            plan.answer_delay = self.delay.mul_f64(random.f64());
        }
        let executed = random.bool();
        let draw = random.f64();
        plan.answer = if draw < self.status_500 {
            Answer::Status { status: 500, executed }
        } else if draw < self.status_500 + self.silence {
            Answer::Silence { executed }
        } else if draw < self.status_500 + self.silence + self.cut {
            Answer::Cut { executed }
        } else {
            Answer::Replies
        };
        plan
    }
}
