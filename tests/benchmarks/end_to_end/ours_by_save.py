"""This library, each row by ``save()``: one statement for each, as the other libraries do."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from end_to_end.library import main
from end_to_end.ours import Note, Ours


class OursBySave(Ours):
    """Writes by ``save()``."""

    async def rows(self, count: int) -> None:
        async with AsyncSession(self._engine) as session:
            for _ in range(count):
                await Note(title="x").save(session)
            await session.commit()


if __name__ == "__main__":
    main(OursBySave())
