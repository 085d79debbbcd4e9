import trunkline


async def main() -> None:
    async with trunkline.open_service("openai", default_model="gpt-5-mini") as service:
        async with service.stream("Why is the sky blue?") as stream:
            async for event in stream:
                if isinstance(event, trunkline.TextDelta):
                    print(event.text, end="", flush=True)
        print(stream.response.usage, stream.response.finish_reason, stream.response.warnings)
