"""Constants of the demo data: merchants, lifestyles, trips, payments, cities.

Nothing here is taken from real clients. Codes and names follow ISO 18245; shares and amounts (in
pounds) are plausible round figures; the leanings to gender and age are what the demo plants (see
`generator` for their strengths).
"""

from __future__ import annotations

from typing import NamedTuple


class Merchant(NamedTuple):
    """One merchant category.

    `female` and `old` say how far its share leans to women and to older clients.
    """

    mcc: int
    name: str
    group: str
    share: float
    amount: float
    spread: float
    online: float = 0.0
    female: float = 0.0
    old: float = 0.0


# 5411, 5912, 5814, 4111 and 4121 lean to no gender, so that the trips below differ between genders
# in order alone.
MERCHANTS = (
    #        mcc   name                               group      share amount spread online female
    # old
    Merchant(5411, "grocery stores, supermarkets", "food", 16.0, 22, 0.8, 0.04),
    Merchant(5499, "convenience stores", "food", 5.0, 7, 0.6, 0.0, -0.1, -0.3),
    Merchant(5422, "butchers, frozen meat", "food", 0.6, 18, 0.5, 0.0, 0.0, 0.6),
    Merchant(5441, "confectionery", "food", 0.5, 6, 0.5, 0.0, 0.4, 0.0),
    Merchant(5451, "dairy stores", "food", 0.3, 8, 0.5, 0.0, 0.1, 0.6),
    Merchant(5462, "bakeries", "food", 2.5, 5, 0.5, 0.0, 0.0, 0.3),
    Merchant(5921, "beer, wine and liquor", "food", 1.3, 16, 0.7, 0.05, -0.5, 0.2),
    Merchant(5993, "tobacco", "food", 0.7, 12, 0.4, 0.0, -0.5, 0.1),
    Merchant(5812, "restaurants", "dining", 4.5, 28, 0.7, 0.0, 0.0, -0.1),
    Merchant(5814, "fast food, coffee", "snack", 6.0, 7, 0.5, 0.1, 0.0, -0.6),
    Merchant(5813, "bars, pubs", "night", 1.6, 18, 0.7, 0.0, -0.5, -0.6),
    Merchant(5541, "service stations", "auto", 3.6, 42, 0.4, 0.0, -0.5, 0.3),
    Merchant(5542, "automated fuel pumps", "auto", 0.8, 45, 0.4, 0.0, -0.5, 0.2),
    Merchant(5533, "auto parts", "auto", 0.6, 35, 0.8, 0.3, -1.4, 0.1),
    Merchant(7538, "auto service shops", "auto", 0.3, 140, 0.8, 0.0, -0.8, 0.4),
    Merchant(7542, "car washes", "auto", 0.5, 9, 0.3, 0.0, -0.8, 0.0),
    Merchant(7523, "parking", "auto", 1.5, 4, 0.6, 0.3, -0.1, 0.2),
    Merchant(4784, "tolls", "auto", 0.2, 3, 0.3, 0.5, -0.4, 0.2),
    Merchant(4111, "local commuter transport", "transit", 4.0, 3, 0.4, 0.0, 0.0, -0.4),
    Merchant(4131, "bus lines", "transit", 0.8, 3, 0.3, 0.0, 0.2, 0.3),
    Merchant(4112, "passenger railways", "transit", 0.8, 28, 0.8, 0.6, 0.0, -0.2),
    Merchant(4121, "taxis", "night", 1.8, 12, 0.5, 0.1, 0.0, -0.8),
    Merchant(5651, "family clothing", "clothes", 1.8, 38, 0.7, 0.25, 0.6, -0.1),
    Merchant(5621, "women's clothing", "clothes", 0.8, 36, 0.7, 0.3, 1.5, 0.0),
    Merchant(5611, "men's clothing", "clothes", 0.4, 45, 0.7, 0.2, -1.1, 0.0),
    Merchant(5641, "children's clothing", "kids", 0.5, 26, 0.6, 0.3, 0.9, -0.1),
    Merchant(5661, "shoe stores", "clothes", 0.7, 48, 0.5, 0.2, 0.5, 0.0),
    Merchant(5691, "men's and women's clothing", "clothes", 0.7, 34, 0.7, 0.4, 0.3, -0.7),
    Merchant(5655, "sports clothing", "clothes", 0.3, 40, 0.6, 0.4, -0.4, -0.7),
    Merchant(5944, "jewellery, watches", "clothes", 0.2, 70, 1.0, 0.2, 0.5, 0.1),
    Merchant(5311, "department stores", "clothes", 1.0, 35, 0.8, 0.1, 0.5, 0.6),
    Merchant(5977, "cosmetics", "beauty", 1.2, 19, 0.6, 0.2, 1.6, -0.3),
    Merchant(7230, "hairdressers, beauty salons", "beauty", 0.9, 32, 0.6, 0.0, 1.0, 0.1),
    Merchant(7298, "health and beauty spas", "beauty", 0.2, 55, 0.5, 0.0, 1.2, 0.0),
    Merchant(5912, "pharmacies", "health", 2.4, 11, 0.7, 0.05, 0.0, 0.9),
    Merchant(8011, "doctors", "health", 0.3, 65, 0.6, 0.0, 0.3, 0.8),
    Merchant(8021, "dentists", "health", 0.3, 85, 0.8, 0.0, 0.0, 0.4),
    Merchant(8043, "opticians", "health", 0.2, 110, 0.7, 0.0, 0.1, 1.0),
    Merchant(8071, "medical laboratories", "health", 0.1, 60, 0.6, 0.0, 0.2, 1.0),
    Merchant(5200, "home supply stores", "home", 0.9, 30, 0.9, 0.1, -0.3, 0.5),
    Merchant(5211, "building materials", "home", 0.4, 60, 1.0, 0.1, -0.9, 0.5),
    Merchant(5251, "hardware stores", "home", 0.4, 18, 0.8, 0.0, -0.8, 0.7),
    Merchant(5261, "garden supplies", "garden", 0.5, 24, 0.7, 0.0, 0.3, 1.2),
    Merchant(5712, "furniture", "home", 0.2, 160, 0.9, 0.3, 0.2, 0.0),
    Merchant(5719, "home furnishings", "home", 0.4, 24, 0.7, 0.2, 0.6, 0.1),
    Merchant(5722, "household appliances", "home", 0.2, 130, 0.9, 0.4, -0.1, 0.4),
    Merchant(5732, "electronics", "gifts", 0.7, 75, 1.0, 0.4, -0.8, -0.4),
    Merchant(5992, "florists", "gifts", 0.4, 26, 0.5, 0.2, -0.1, 0.5),
    Merchant(5995, "pet shops", "home", 0.7, 21, 0.6, 0.2, 0.3, 0.0),
    Merchant(742, "veterinary services", "health", 0.2, 52, 0.8, 0.0, 0.2, 0.1),
    Merchant(5942, "bookstores", "gifts", 0.5, 14, 0.5, 0.3, 0.4, 0.4),
    Merchant(5945, "toys, games, hobbies", "kids", 0.5, 22, 0.7, 0.3, 0.0, -0.2),
    Merchant(5943, "stationery", "kids", 0.3, 9, 0.6, 0.1, 0.4, 0.0),
    Merchant(8351, "child care", "kids", 0.2, 95, 0.6, 0.3, 0.2, -0.1),
    Merchant(5941, "sporting goods", "gifts", 0.4, 36, 0.8, 0.3, -0.6, -0.4),
    Merchant(7832, "cinemas", "dining", 0.6, 14, 0.4, 0.4, 0.0, -0.6),
    Merchant(7922, "theatres, concerts", "dining", 0.3, 48, 0.6, 0.7, 0.4, 0.4),
    Merchant(7995, "betting", "screen", 0.6, 12, 0.9, 0.8, -1.5, -0.1),
    Merchant(5816, "digital games", "screen", 0.9, 9, 0.7, 1.0, -1.2, -1.4),
    Merchant(5815, "digital books, films, music", "screen", 1.0, 7, 0.5, 1.0, 0.0, -0.7),
    Merchant(5262, "online marketplaces", "screen", 2.0, 17, 0.8, 1.0, 0.2, -0.4),
    Merchant(5999, "specialty retail", "gifts", 0.8, 20, 0.8, 0.4, 0.2, 0.0),
    Merchant(4511, "airlines", "travel", 0.3, 120, 0.8, 0.95, 0.0, 0.0),
    Merchant(7011, "hotels", "travel", 0.5, 110, 0.7, 0.4, 0.0, 0.2),
    Merchant(4722, "travel agencies", "travel", 0.2, 210, 0.9, 0.8, 0.2, 0.5),
    Merchant(5309, "duty free", "travel", 0.1, 38, 0.6, 0.0, 0.2, 0.0),
    Merchant(4829, "money transfers", "screen", 1.6, 40, 1.0, 1.0, 0.0, -0.4),
    Merchant(6011, "cash machines", "cash", 3.5, 50, 0.6, 0.0, -0.2, 0.7),
    Merchant(9399, "government services", "office", 0.2, 34, 0.8, 0.7, 0.0, 0.2),
    # From here on share 0: these are never a free choice, they come as the regular payments below.
    Merchant(6012, "financial institutions (pay)", "office", 0.0, 2100, 0.3, 1.0),
    Merchant(6513, "rent", "office", 0.0, 780, 0.3, 1.0),
    Merchant(4900, "utilities", "office", 0.0, 95, 0.4, 1.0),
    Merchant(4814, "telephone", "office", 0.0, 18, 0.4, 1.0),
    Merchant(4899, "television, streaming", "screen", 0.0, 11, 0.3, 1.0),
    Merchant(5968, "subscriptions", "screen", 0.0, 9, 0.5, 1.0),
    Merchant(6300, "insurance", "office", 0.0, 46, 0.5, 1.0),
    Merchant(7997, "gyms, sports clubs", "beauty", 0.0, 8, 0.3, 0.0),
)

CASH_MCC = 6011
TRANSFER_MCC = 4829
PAY_MCC = 6012


# Lifestyles: factors on the shares of groups. They are independent of gender and age, so they make
# clients differ from each other, and hide part of the effect of gender and age.
LIFESTYLES: tuple[dict[str, float], ...] = (
    {"kids": 4.0, "food": 1.3, "clothes": 1.3, "night": 0.4},  # family
    {"auto": 2.6, "home": 1.5, "transit": 0.2, "snack": 0.8},  # driver
    {"night": 2.5, "dining": 2.0, "snack": 1.6, "home": 0.5},  # out in town
    {"transit": 2.6, "snack": 1.7, "auto": 0.2, "health": 1.2},  # commuter
    {"home": 2.2, "garden": 2.5, "food": 1.4, "dining": 0.6},  # stays at home
    {"travel": 4.0, "dining": 1.6, "clothes": 1.3, "cash": 0.5},  # traveller
    {"screen": 3.0, "gifts": 1.7, "dining": 0.7, "cash": 0.4},  # buys online
)


class Trip(NamedTuple):
    """Two stops of an outing.

    The habit decides which comes first (with `by_amount`: the smaller or not).

    `female` and `old` make the habit "first stop first" (or "smaller first") more likely for women
    and for older clients.
    """

    first: int
    second: int
    chance: float
    minutes: float
    female: float = 0.0
    old: float = 0.0
    by_amount: bool = False


TRIPS = (
    Trip(
        5411, 5912, 0.30, 14, female=1.0
    ),  # groceries, then the pharmacy (or the pharmacy, then groceries)
    Trip(5541, 5814, 0.45, 9, female=-1.0),  # fuel, then a coffee (or a coffee, then fuel)
    Trip(
        5651, 5661, 0.60, 25, female=1.0, by_amount=True
    ),  # clothes and shoes: the small purchase, then the large
    Trip(5812, 4121, 0.35, 40, old=-1.0),  # restaurant, then a taxi home (or a taxi there)
    Trip(4111, 5814, 0.30, 12, old=1.0),  # train, then coffee (or coffee, then the train)
    Trip(5499, 5462, 0.35, 8, old=-1.0),  # convenience store, then the bakery (or the bakery first)
)


class Plan(NamedTuple):
    """A regular payment.

    `every` is "month" (own day), "payday", "week" (own weekday) or "workday".
    """

    mcc: int
    every: str
    owners: float
    kept: float
    wobble: float


# `owners`: probability that a client has it; `kept`: that a date happens; `wobble`: spread of its
# log amount.
PLANS = (
    Plan(PAY_MCC, "payday", 0.70, 1.00, 0.03),
    Plan(6513, "month", 0.25, 1.00, 0.00),
    Plan(4900, "month", 0.35, 0.97, 0.15),
    Plan(4814, "month", 0.40, 0.98, 0.00),
    Plan(4899, "month", 0.40, 0.98, 0.00),
    Plan(5968, "month", 0.25, 0.95, 0.00),
    Plan(6300, "month", 0.20, 0.98, 0.00),
    Plan(7997, "week", 0.18, 0.75, 0.10),
    Plan(5814, "workday", 0.22, 0.30, 0.15),
)

# Home cities by approximate population. The last six are only travelled to.
CITIES = {
    "London": 30.0,
    "Birmingham": 9.0,
    "Manchester": 8.0,
    "Glasgow": 6.0,
    "Leeds": 6.0,
    "Liverpool": 5.0,
    "Sheffield": 4.0,
    "Bristol": 4.0,
    "Edinburgh": 4.0,
    "Leicester": 3.0,
    "Cardiff": 3.0,
    "Belfast": 3.0,
    "Nottingham": 3.0,
    "Newcastle": 3.0,
    "Southampton": 2.5,
    "Brighton": 2.5,
    "Plymouth": 2.0,
    "Derby": 2.0,
    "Reading": 2.0,
    "Norwich": 1.5,
    "Aberdeen": 1.5,
    "Swansea": 1.5,
    "Oxford": 1.5,
    "York": 1.5,
    "Cambridge": 1.5,
    "Paris": 0.0,
    "Barcelona": 0.0,
    "Alicante": 0.0,
    "Lisbon": 0.0,
    "Athens": 0.0,
    "Dublin": 0.0,
}
