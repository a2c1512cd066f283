"""Payments in shops and orders online: two tables with their own columns, one vector per client.

python examples/several_tables.py
"""

import seqmel

data = seqmel.generate_card_data(120, seed=0)
events = data.events.to_pandas()
online = events["channel"] == "online"
shops = events.loc[~online, ["client_id", "event_time", "mcc", "city", "amount"]]
orders = events.loc[online, ["client_id", "event_time", "mcc", "amount"]]
orders.columns = ["user_id", "ordered_at", "mcc", "total"]
tables = {"shops": shops, "orders": orders}

model = seqmel.train(tables, "model", share=["mcc"], epochs=2, device="cpu", progress=False)
print("columns:", ", ".join(model.schema.features))
vectors = model.embed(tables, progress=False)
print(f"{len(vectors)} clients x {vectors.shape[1]} numbers")
