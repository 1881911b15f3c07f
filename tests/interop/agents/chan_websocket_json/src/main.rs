//! Echoes the caller with the public client library `asterisk-rs-ari` in JSON control format, and
//! does what the telephone's keys ask for: 1 plays a second of tone followed by a mark, 2 flushes,
//! 3 asks for the status, 9 falls silent, asks to be told when the queue is drained and then hangs up.
//! What happens is printed, one line each.

use std::time::Duration;

use asterisk_rs_ari::media::{MediaChannel, MediaEvent};
use tokio::net::TcpListener;
use tokio::time::timeout;

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let port: u16 = std::env::args().nth(1).ok_or("the port is missing")?.parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening");
    loop {
        let (stream, _) = listener.accept().await?;
        match talk(MediaChannel::accept(stream).await?).await {
            Ok(()) => println!("disconnected"),
            Err(failure) => println!("failed {failure}"),
        }
    }
}

async fn talk(mut channel: MediaChannel) -> Result<(), Failure> {
    let mut heard = 0_u64;
    let mut is_echoing = true;
    loop {
        // The library lends its channel to one reader at a time: audio comes each 20 ms, and
        // between two frames the events that have gathered are taken.
        match timeout(Duration::from_millis(20), channel.recv_audio()).await {
            Ok(Some(audio)) => {
                heard += 1;
                if heard == 1 {
                    println!("audio {}", audio.len());
                }
                if is_echoing {
                    channel.send_audio(audio).await?;
                }
            }
            Ok(None) => return Ok(()),
            Err(_) => {}
        }
        while let Ok(event) = timeout(Duration::ZERO, channel.recv_event()).await {
            let Some(event) = event else { return Ok(()) };
            println!("event {event:?}");
            is_echoing &= !matches!(&event, MediaEvent::DtmfEnd { digit, .. } if digit == "9");
            act(&channel, event).await?;
        }
    }
}

async fn act(channel: &MediaChannel, event: MediaEvent) -> Result<(), Failure> {
    match event {
        MediaEvent::DtmfEnd { digit, .. } => match digit.as_str() {
            "1" => {
                channel.start_buffering().await?;
                // The two octets of a square wave in mu-law, 1 kHz at 8,000 samples a second.
                let tone = [[0x9f_u8; 4], [0x1f; 4]].concat().repeat(1_000);
                channel.send_audio(tone).await?;
                channel.stop_buffering(Some("burst".to_owned())).await?;
                channel.mark(Some("after the tone".to_owned())).await?;
            }
            "2" => channel.flush().await?,
            "3" => channel.get_status().await?,
            "9" => channel.report_queue_drained().await?,
            _ => {}
        },
        MediaEvent::QueueDrained { .. } => channel.hangup().await?,
        _ => {}
    }
    Ok(())
}
