import asyncio

import trunkline


async def main() -> None:
    async with trunkline.open_service("openai", default_model="gpt-5.4-mini") as service:
        response = await service.chat("Why is the sky blue?")
        print(response.text)

        async with service.stream("Why is it red in the evening?") as stream:
            async for text in stream.text:
                print(text, end="", flush=True)
        print()
        print(stream.response.usage, stream.response.warnings)


asyncio.run(main())
