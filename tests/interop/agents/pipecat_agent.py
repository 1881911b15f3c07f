"""A pipecat agent on one of its telephony dialects: unmodified serializer, transport and call detection.

Echoes the caller. A key of the telephone makes it do one thing each:
1 plays eight seconds of tone, 2 interrupts what is playing (the serializer sends `clear`),
9 ends the call from the agent's side. What happens is printed, one line each.

    python pipecat_agent.py twilio|plivo|vobiz|exotel|telnyx|vonage|genesys PORT
"""

import asyncio
import math
import struct
import sys

import uvicorn
from fastapi import FastAPI, WebSocket
from pipecat.frames.frames import (
    EndFrame,
    InputAudioRawFrame,
    InputDTMFFrame,
    OutputAudioRawFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.runner.utils import parse_telephony_websocket
from pipecat.serializers.exotel import ExotelFrameSerializer
from pipecat.serializers.genesys import GenesysAudioHookSerializer
from pipecat.serializers.plivo import PlivoFrameSerializer
from pipecat.serializers.telnyx import TelnyxFrameSerializer
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.serializers.vobiz import VobizFrameSerializer
from pipecat.serializers.vonage import VonageFrameSerializer
from pipecat.transports.websocket.fastapi import (
    FastAPIWebsocketParams,
    FastAPIWebsocketTransport,
)

SAMPLE_RATE = 8000
PROVIDER, PORT = sys.argv[1], int(sys.argv[2])
app = FastAPI()


def tell(text):
    print(text, flush=True)


class Behaviour(FrameProcessor):
    """Echo, and what the keys ask for."""

    def __init__(self):
        super().__init__()
        self.task = None
        self.echoing = True
        self.heard_audio = False

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            if not self.heard_audio:
                self.heard_audio = True
                tell("audio")
            if self.echoing:
                await self.push_frame(
                    OutputAudioRawFrame(frame.audio, frame.sample_rate, frame.num_channels)
                )
            return
        if isinstance(frame, InputDTMFFrame):
            await self.on_key(frame.button.value)
            return
        await self.push_frame(frame, direction)

    async def on_key(self, key):
        tell(f"key {key}")
        if key == "1":
            self.echoing = False
            samples = [
                int(8000 * math.sin(2 * math.pi * 600 * n / SAMPLE_RATE))
                for n in range(8 * SAMPLE_RATE)
            ]
            audio = struct.pack(f"<{len(samples)}h", *samples)
            await self.push_frame(OutputAudioRawFrame(audio, SAMPLE_RATE, 1))
        elif key == "2":
            await self.broadcast_interruption()
            tell("interrupted")
        elif key == "9":
            tell("ending")
            await self.task.queue_frame(EndFrame())


async def make_serializer(websocket, token):
    if PROVIDER == "vonage":
        tell(f"call vonage {token}")
        return VonageFrameSerializer()
    if PROVIDER == "genesys":
        serializer = GenesysAudioHookSerializer()

        @serializer.event_handler("on_open")
        async def on_open(_serializer, message):
            parameters = message["parameters"]
            tell(f"call genesys {token} ani={parameters['participant']['ani']} {parameters['inputVariables']}")

        @serializer.event_handler("on_close")
        async def on_close(_serializer, message):
            tell(f"close {message['parameters']['reason']}")

        return serializer
    kind, call = await parse_telephony_websocket(websocket)
    tell(
        f"call {kind} {token} stream={call['stream_id']} call={call['call_id']} "
        f"from={call.get('from')} body={call.get('body')}"
    )
    no_rest = {"auto_hang_up": False}
    stream, number = call["stream_id"], call["call_id"]
    if PROVIDER == "twilio":
        params = TwilioFrameSerializer.InputParams(**no_rest)
        return TwilioFrameSerializer(stream_sid=stream, call_sid=number, params=params)
    if PROVIDER == "plivo":
        params = PlivoFrameSerializer.InputParams(**no_rest)
        return PlivoFrameSerializer(stream_id=stream, call_id=number, params=params)
    if PROVIDER == "vobiz":
        params = VobizFrameSerializer.InputParams(hangup_method="ws_stop")
        return VobizFrameSerializer(stream_id=stream, call_id=number, params=params)
    if PROVIDER == "exotel":
        return ExotelFrameSerializer(stream_sid=stream, call_sid=number)
    params = TelnyxFrameSerializer.InputParams(**no_rest)
    return TelnyxFrameSerializer(
        stream_id=stream,
        call_control_id=number,
        inbound_encoding="PCMU",
        outbound_encoding=call["outbound_encoding"],
        params=params,
    )


@app.websocket("/ws/{token}")
async def agent(websocket: WebSocket, token: str):
    await websocket.accept()
    serializer = await make_serializer(websocket, token)
    transport = FastAPIWebsocketTransport(
        websocket=websocket,
        params=FastAPIWebsocketParams(
            audio_in_enabled=True,
            audio_out_enabled=True,
            add_wav_header=False,
            serializer=serializer,
            # AudioHook bounds the rate of messages.
            audio_out_fixed_packet_size=1600 if PROVIDER == "genesys" else None,
        ),
    )
    behaviour = Behaviour()
    task = PipelineTask(
        Pipeline([transport.input(), behaviour, transport.output()]),
        params=PipelineParams(
            audio_in_sample_rate=SAMPLE_RATE, audio_out_sample_rate=SAMPLE_RATE
        ),
    )
    behaviour.task = task

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(_transport, _client):
        tell("disconnected")
        await task.cancel()

    await PipelineRunner(handle_sigint=False).run(task)
    tell("done")


if __name__ == "__main__":
    config = uvicorn.Config(app, host="127.0.0.1", port=PORT, log_level="warning")
    server = uvicorn.Server(config)

    async def main():
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.02)
        tell("listening")
        await serving

    asyncio.run(main())
