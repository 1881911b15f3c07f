//! TwiML, as far as a call that is up can be moved by it: `<Dial>`, `<Refer>`, `<Hangup>`.
//!
//! The first verb decides: a call that is handed on, or ended, comes back to no document. A verb that is not spoken here
//! is refused by name rather than passed over, for what it was to do would be missed.

use std::time::Duration;

use roxmltree::{Document, Node};
use tandem_call::transfer::check_target;
use tandem_call::{ShownNumber, TransferOrder, TransferWay};

/// Longest time a `<Dial>` may ring, in seconds, as Twilio has it.
const TIMEOUT_SECONDS: std::ops::RangeInclusive<u64> = 5..=600;

/// What a document asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// Send the caller elsewhere.
    Transfer(TransferOrder),
    /// End the call.
    HangUp,
}

/// Whose numbers a `callerId` may be.
pub(super) struct Numbers<'a> {
    /// The account's own.
    pub(super) own: &'a str,
    /// The other side's.
    pub(super) other: &'a str,
}

/// Reads a document.
///
/// # Errors
/// What is wrong with it, and what would do.
pub(super) fn read(text: &str, numbers: &Numbers<'_>) -> Result<Redirect, String> {
    let document = Document::parse(text).map_err(|error| format!("Twiml is no XML: {error}"))?;
    let root = document.root_element();
    if root.tag_name().name() != "Response" {
        return Err(format!("Twiml begins with <{}>; give <Response>", root.tag_name().name()));
    }
    let verb = root
        .children()
        .find(Node::is_element)
        .ok_or("Twiml holds no verb; give <Dial>, <Refer> or <Hangup>")?;
    match verb.tag_name().name() {
        "Dial" => dial(verb, numbers).map(Redirect::Transfer),
        "Refer" => refer(verb).map(Redirect::Transfer),
        "Hangup" => Ok(Redirect::HangUp),
        other => Err(format!("<{other}> is not spoken here; give <Dial>, <Refer> or <Hangup>")),
    }
}

fn dial(verb: Node<'_, '_>, numbers: &Numbers<'_>) -> Result<TransferOrder, String> {
    let order =
        TransferOrder { way: TransferWay::Dial, ..TransferOrder::to(target(verb, &["Number", "Sip"])?) };
    let ringing = match verb.attribute("timeout") {
        None => None,
        Some(text) => {
            let seconds = text.trim().parse().ok().filter(|seconds| TIMEOUT_SECONDS.contains(seconds));
            Some(Duration::from_secs(seconds.ok_or_else(|| {
                format!("timeout={text:?} of <Dial> is no whole number of seconds from 5 to 600")
            })?))
        }
    };
    let bare = |number: &str| number.trim_start_matches('+').to_owned();
    let shows = match verb.attribute("callerId") {
        None => ShownNumber::Own,
        Some(number) if bare(number) == bare(numbers.own) => ShownNumber::Own,
        Some(number) if bare(number) == bare(numbers.other) => ShownNumber::Caller,
        Some(number) => {
            return Err(format!(
                "callerId={number:?} of <Dial> is neither this call's own number nor the caller's"
            ));
        }
    };
    Ok(TransferOrder { ringing, shows, ..order })
}

fn refer(verb: Node<'_, '_>) -> Result<TransferOrder, String> {
    Ok(TransferOrder { way: TransferWay::Refer, ..TransferOrder::to(target(verb, &["Sip", "ReferSip"])?) })
}

/// Whom a verb names: by its own text, or by the one noun within it.
fn target(verb: Node<'_, '_>, nouns: &[&str]) -> Result<String, String> {
    let name = verb.tag_name().name();
    let mut within = verb.children().filter(Node::is_element);
    let named = within.next();
    if within.next().is_some() {
        return Err(format!("<{name}> names several; one is called at a time"));
    }
    let text = match named {
        Some(noun) if nouns.contains(&noun.tag_name().name()) => noun.text(),
        Some(noun) => {
            return Err(format!(
                "<{}> within <{name}> is not spoken here; give <{}>",
                noun.tag_name().name(),
                nouns[0]
            ));
        }
        None => verb.text(),
    };
    let target = text.unwrap_or_default().trim();
    check_target(target).map_err(|why| format!("<{name}>: {why}"))?;
    Ok(target.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: Numbers<'_> = Numbers { own: "+918047111111", other: "+919800000001" };

    fn order(text: &str) -> TransferOrder {
        match read(text, &NUMBERS) {
            Ok(Redirect::Transfer(order)) => order,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn dial_and_refer_are_transfers() {
        let plain = order("<Response><Dial>+4930999</Dial></Response>");
        assert_eq!((plain.target.as_str(), plain.way), ("+4930999", TransferWay::Dial));
        assert_eq!((plain.shows, plain.ringing, plain.keeps_agent), (ShownNumber::Own, None, false));
        let full = order(
            "<?xml version=\"1.0\"?>\n<Response>\n <Dial callerId=\"919800000001\" timeout=\"20\">\n  \
             <Number> +49 30 999 </Number>\n </Dial>\n <Say>never said</Say>\n</Response>",
        );
        assert_eq!((full.target.as_str(), full.shows), ("+49 30 999", ShownNumber::Caller));
        assert_eq!(full.ringing, Some(Duration::from_secs(20)));
        let sip = order("<Response><Dial><Sip>sip:bob@gw.example</Sip></Dial></Response>");
        assert_eq!(sip.target, "sip:bob@gw.example");
        let refer = order("<Response><Refer><Sip>sip:+4930999@gw.example</Sip></Refer></Response>");
        assert_eq!((refer.target.as_str(), refer.way), ("sip:+4930999@gw.example", TransferWay::Refer));
        assert_eq!(read("<Response><Hangup/></Response>", &NUMBERS), Ok(Redirect::HangUp));
    }

    #[test]
    fn what_is_not_spoken_here_is_refused_by_name() {
        for (text, part) in [
            ("", "no XML"),
            ("<Response><Dial>", "no XML"),
            ("<Dial>+49</Dial>", "<Response>"),
            ("<Response/>", "no verb"),
            ("<Response><Say>hi</Say><Dial>+49301</Dial></Response>", "<Say>"),
            ("<Response><Dial>sales</Dial></Response>", "no number"),
            ("<Response><Dial/></Response>", "no number"),
            ("<Response><Dial><Queue>q</Queue></Dial></Response>", "<Queue>"),
            ("<Response><Dial><Number>+49301</Number><Number>+49302</Number></Dial></Response>", "several"),
            ("<Response><Dial timeout=\"1\">+49301</Dial></Response>", "timeout"),
            ("<Response><Dial callerId=\"+1900\">+49301</Dial></Response>", "callerId"),
            ("<!DOCTYPE x [<!ENTITY a \"b\">]><Response><Dial>&a;</Dial></Response>", "no XML"),
        ] {
            let why = read(text, &NUMBERS).expect_err(text);
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}
