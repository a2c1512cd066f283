"""A bank: two event tables, facts, labels with a date, joint fine-tuning and reasons for a score.

python examples/bank.py
"""

import seqmel

data = seqmel.generate_card_data(150, seed=0)
events, facts = data.events.to_pandas(), data.clients.to_pandas()[["client_id", "age", "gender"]]
online = events.pop("channel") == "online"
bank = {"cards": events[~online], "orders": events[online]}
rows = seqmel.make_labels(bank, within="14d", every="month", event="orders.amount>100")

model = seqmel.train(bank, "model", epochs=2, device="cpu", progress=False)
buys = model.finetune(
    bank, rows, target="target", time_column="event_time", facts=facts, progress=False
)
today = {"as_of": "2024-01-01", "facts": facts, "progress": False}
scores = buys.predict(bank, **today)["target=1"].sort_values(ascending=False)
client = scores.index[0][0]
why = buys.explain(bank, client, target="target=1", orders=5, last=20, **today)
print(f"{len(rows)} labels; the highest of {len(scores)} scores is {scores.iloc[0]:.2f}")
print(why.groupby("column")["contribution"].sum().round(2).to_string())
