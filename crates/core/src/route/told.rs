//! What is told of a stretch to an operator who follows one of its accounts (`watch/trace.rs`).

use vorpal_proto::stanza::Stanza;

use crate::core::turn::Turn;
use crate::module::Phase;
use crate::module::hook::Flow;
use crate::owner::account::Account;
use crate::owner::plan::Plan;
use crate::route::stretch::{End, SideState};
use crate::rules::promise::never_promised;
use crate::watch::trace::{Step, names};

impl Turn<'_> {
    /// Tells those who follow one of the accounts how the stretch ended.
    #[cold]
    pub(crate) fn step_end(&self, end: &End, sent: Option<&Account>, received: Option<&Account>, stanza: &Stanza) {
        let own = sent.zip(received).is_some_and(|(a, b)| std::ptr::eq(a, b));
        for account in [sent, received.filter(|_| !own)].into_iter().flatten() {
            self.step(&account.jid, || match end {
                End::Silence => Step::of("dropped", stanza),
                End::Error(error) => {
                    let step = Step::of("answered", stanza).decided(error.condition.as_str());
                    Step { reason: error.text().map(str::to_owned), ..step }
                }
                End::Goes(goes) => {
                    let mut copies = names(received, &goes.receiver_copies);
                    copies.extend(names(sent, &goes.sender_copies));
                    let step = Step { sessions: names(received, &goes.to), copies, ..Step::of("home", stanza) };
                    match (&goes.draft, never_promised(stanza)) {
                        (Some(_), _) => step.decided("log"),
                        (None, Some(reason)) => step.decided("none").because(reason),
                        (None, None) => {
                            step.decided("none").because("all are there, and the sender's stream is not managed")
                        }
                    }
                }
            });
        }
    }

    #[cold]
    pub(crate) fn step_stopped(
        &self,
        side: &SideState<'_>,
        phase: Phase,
        module: &'static str,
        flow: &Flow,
        stanza: &Stanza,
    ) {
        self.step(&side.account.jid, || {
            let (decision, reason) = match flow {
                Flow::Next => ("next", ""),
                Flow::Drop(reason) => ("drop", *reason),
                Flow::Bounce(reason, _) => ("bounce", *reason),
            };
            Step {
                phase: Some(phase.name().to_owned()),
                side: Some(side.dir.name().to_owned()),
                module: Some(module),
                ..Step::of("stopped", stanza).decided(decision).because(reason)
            }
        });
    }

    /// Tells those who follow one of the accounts what the router has decided.
    #[cold]
    pub(crate) fn step_planned(&self, plan: &Plan, out: Option<&Account>, inn: Option<&Account>, stanza: &Stanza) {
        let own = out.zip(inn).is_some_and(|(a, b)| std::ptr::eq(a, b));
        for account in [out, inn.filter(|_| !own)].into_iter().flatten() {
            self.step(&account.jid, || {
                let step = Step::of("planned", stanza);
                match plan {
                    Plan::Deliver(to) => Step { sessions: names(inn, to), ..step }.decided("deliver"),
                    Plan::Keep => step.decided("keep").because("no session can take it self.now"),
                    Plan::Bounce(error) => step.decided("bounce").because(error.condition.as_str()),
                    Plan::Open | Plan::Ignore => step.decided("ignore"),
                }
            });
        }
    }
}
