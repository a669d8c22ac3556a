"""A stand-in for the engine's Table."""

import duckdb


class FrameTable:
    """A pandas DataFrame as the engine's Table."""

    def __init__(self, frame, name="modeling_dataset"):
        self.name, self.frame, self.rows = name, frame, len(frame)

    def query(self, sql):
        with duckdb.connect() as connection:
            return connection.register(self.name, self.frame).execute(sql).df()

    def df(self):
        return self.frame
