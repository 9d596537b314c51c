"""A freqtrade strategy that asks Natron over REST: direction from `/predict`, the stop from `/plan`.

Run `natron serve --no-app` beside freqtrade, with a model of the pair and timeframe. Only the newest candle is asked, live or in
dry run: freqtrade's backtest sees no signals; `natron backtest` is for that.
"""
import json, urllib.error, urllib.request
from datetime import timezone
import numpy as np
from freqtrade.strategy import IStrategy, stoploss_from_absolute


class NatronStrategy(IStrategy):
    INTERFACE_VERSION = 3
    timeframe = "1h"
    startup_candle_count = 512
    can_short = False
    minimal_roi = {"0": 10}           # no fixed target
    stoploss = -0.10                  # the farthest that a stop may be
    use_custom_stoploss = True
    natron = "http://127.0.0.1:8000"
    token = ""                        # the server's NATRON_TOKEN
    threshold = 0.1                   # P(UP) - P(DOWN) from which a long is entered
    stop_chance = 0.15                # chance that noise hits the stop
    stop_atr = 2.0                    # the stop where the server knows no plan, in mean ranges of 14 candles

    def ask(self, route, **body):
        "The answer of the server; None if it has no such route."
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.token}"} if self.token else {})
        request = urllib.request.Request(self.natron + route, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as r: return json.load(r)
        except urllib.error.HTTPError as e:
            if e.code == 404: return None
            raise

    def rows(self, dataframe):
        "The closed candles as Natron takes them."
        times = dataframe["date"].dt.tz_convert(timezone.utc).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        return dataframe[["open", "high", "low", "close", "volume"]].assign(time=times).tail(512).to_dict("records")

    def stop_of(self, rows, dataframe):
        "Price of a long's stop."
        plan = self.ask("/plan", candles=rows, side="long", stop_chance=self.stop_chance)
        if plan: return plan["stop"]
        reach = (dataframe["high"] - dataframe["low"]).tail(14).mean()
        return float(dataframe["close"].iloc[-1] - self.stop_atr*reach)

    def populate_indicators(self, dataframe, metadata):
        dataframe["natron"], dataframe["natron_stop"] = np.nan, np.nan
        if len(dataframe) < 96 or self.dp and self.dp.runmode.value not in ("live", "dry_run"): return dataframe
        rows = self.rows(dataframe)
        answer, last = self.ask("/predict", candles=rows), dataframe.index[-1]
        if answer["warnings"]: return dataframe
        dataframe.loc[last, "natron"] = answer["direction_probs"]["UP"] - answer["direction_probs"]["DOWN"]
        dataframe.loc[last, "natron_stop"] = self.stop_of(rows, dataframe)
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        dataframe.loc[dataframe["natron"] >= self.threshold, "enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        dataframe.loc[dataframe["natron"] <= -self.threshold, "exit_long"] = 1
        return dataframe

    def order_filled(self, pair, trade, order, current_time, **kwargs):
        "Keep the stop that was planned when the trade began."
        dataframe, _ = self.dp.get_analyzed_dataframe(pair, self.timeframe)
        if order.ft_order_side == trade.entry_side and trade.get_custom_data("stop") is None:
            trade.set_custom_data("stop", float(dataframe["natron_stop"].iloc[-1]))

    def custom_stoploss(self, pair, trade, current_time, current_rate, current_profit, after_fill, **kwargs):
        stop = trade.get_custom_data("stop")
        if stop is None or not np.isfinite(stop): return None
        return stoploss_from_absolute(stop, current_rate, is_short=trade.is_short, leverage=trade.leverage)
