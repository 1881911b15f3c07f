"""Bolna's own telephony handlers, unmodified, around the simplest possible agent.

Two providers: `sip-trunk` (Asterisk chan_websocket, plain text) and `freeswitch` (the patched
mod_audio_stream). The agent greets with two seconds of 700 Hz in one response, reports when the
marks of the greeting came back, echoes what the caller says, and on key 9 plays a goodbye and
hangs up the way Bolna does. Key 2 interrupts. What happens is printed, one line each.

    python bolna_handlers.py sip-trunk|freeswitch PORT
"""

import asyncio
import math
import struct
import sys

import uvicorn
from bolna.helpers.mark_event_meta_data import MarkEventMetaData
from bolna.input_handlers.telephony_providers.freeswitch import FreeSwitchInputHandler
from bolna.input_handlers.telephony_providers.sip_trunk import SipTrunkInputHandler
from bolna.output_handlers.telephony_providers.freeswitch import FreeSwitchOutputHandler
from bolna.output_handlers.telephony_providers.sip_trunk import SipTrunkOutputHandler
from fastapi import FastAPI, WebSocket

PROVIDER, PORT = sys.argv[1], int(sys.argv[2])
app = FastAPI()


def tell(text):
    print(text, flush=True)


def tone(frequency, seconds, rate):
    samples = [
        int(8000 * math.sin(2 * math.pi * frequency * n / rate)) for n in range(int(seconds * rate))
    ]
    return struct.pack(f"<{len(samples)}h", *samples)


def make_handlers(websocket, queues, marks):
    common = {
        "queues": queues,
        "websocket": websocket,
        "input_types": {"audio": 0},
        "mark_event_meta_data": marks,
        "observable_variables": {},
    }
    if PROVIDER == "sip-trunk":
        source = SipTrunkInputHandler(**common)
        sink = SipTrunkOutputHandler(
            websocket=websocket, mark_event_meta_data=marks, input_handler=source
        )
    else:
        source = FreeSwitchInputHandler(**common)
        # The echo runs at the rate of the caller's audio.
        sink = FreeSwitchOutputHandler(
            websocket=websocket,
            mark_event_meta_data=marks,
            input_handler=source,
            sampling_rate=16000,
        )
    source.is_dtmf_active = True
    return source, sink


class Agent:
    def __init__(self, websocket):
        self.queues = {"transcriber": asyncio.Queue(), "dtmf": asyncio.Queue(), "llm": asyncio.Queue()}
        self.marks = MarkEventMetaData()
        self.source, self.sink = make_handlers(websocket, self.queues, self.marks)
        self.sequence = 0
        self.echoing = False
        self.is_hanging_up = False

    async def say(self, audio, audio_format, final=True):
        await self.sink.handle(
            {
                "data": audio,
                "meta_info": {
                    "type": "audio",
                    "format": audio_format,
                    "sequence_id": self.sequence,
                    "is_final_chunk_of_entire_response": final,
                    "message_category": "agent_response",
                    "text_synthesized": "x",
                },
            }
        )

    async def played(self):
        """Waits until every mark sent so far has come back."""
        while self.marks.mark_event_meta_data:
            await asyncio.sleep(0.02)

    async def greet(self):
        while PROVIDER == "sip-trunk" and self.source.get_stream_sid() is None:
            await asyncio.sleep(0.01)
        tell("greeting")
        rate = 8000 if PROVIDER == "sip-trunk" else 16000
        await self.say(tone(700, 2, rate), "pcm")
        await self.played()
        tell("greeted")
        self.sequence += 1
        self.echoing = True

    async def echo(self):
        while True:
            packet = await self.queues["transcriber"].get()
            audio = packet.get("data")
            if (packet.get("meta_info") or {}).get("eos"):
                tell("eos")
                return
            if audio and self.echoing:
                audio_format = "ulaw" if PROVIDER == "sip-trunk" else "pcm"
                await self.say(audio, audio_format, final=False)

    async def keys(self):
        while True:
            digits = await self.queues["dtmf"].get()
            tell(f"keys {digits}")
            if "2" in str(digits):
                await self.sink.handle_interruption()
                tell("interrupted")
            if "9" in str(digits):
                self.is_hanging_up = True
                self.echoing = False
                self.sequence += 1
                rate = 8000 if PROVIDER == "sip-trunk" else 16000
                await self.say(tone(500, 1, rate), "pcm")
                if PROVIDER != "sip-trunk":
                    await self.played()
                await self.source.stop_handler()
                tell("hung up")
                return


@app.websocket("/{path:path}")
async def agent(websocket: WebSocket, path: str):
    await websocket.accept()
    tell(f"connected {path}")
    it = Agent(websocket)
    await it.source.handle()
    tasks = [asyncio.create_task(work()) for work in (it.greet, it.echo, it.keys)]
    await it.source.websocket_listen_task
    if it.is_hanging_up:
        await asyncio.wait(tasks[2:], timeout=5)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            tell(f"error {result!r}")
    tell("disconnected")


async def main():
    config = uvicorn.Config(app, host="127.0.0.1", port=PORT, log_level="warning")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.02)
    tell("listening")
    await serving


if __name__ == "__main__":
    asyncio.run(main())
