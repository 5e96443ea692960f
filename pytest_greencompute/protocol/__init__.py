"""How a measurement proceeds, as generators that ask and are told. Pure: no clock, no hardware, no model."""
