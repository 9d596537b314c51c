// The terminal behind mql5.hpp: clock and candles from a CSV, sockets with MQL5's semantics, a broker with one symbol.
// Time is simulated. What MetaTrader would spend waiting in a socket call is added to the clock, and nothing sleeps.
#include "mql5.hpp"
#include <arpa/inet.h>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <fcntl.h>
#include <fstream>
#include <iostream>
#include <map>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sstream>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#if __has_include(<openssl/ssl.h>)
#define HAS_TLS 1
#include <openssl/err.h>
#include <openssl/ssl.h>
#else
#define HAS_TLS 0
#endif

extern "C" void __sanitizer_print_stack_trace();

string _Symbol;
ENUM_TIMEFRAMES _Period = PERIOD_H1;
double _Point;
int _Digits;

namespace sim {
const int PATIENCE_MS = 600000;         // of real time, until something is stuck

//--- Settings: key=value; "set:Name=value" is an input of the EA
std::map<std::string, std::string> settings;
std::string text(const std::string &key, const std::string &otherwise) { auto i = settings.find(key); return i == settings.end() ? otherwise : i->second; }
double number(const std::string &key, double otherwise) { return settings.count(key) ? std::stod(settings[key]) : otherwise; }

void die(const std::string &what) {
  fflush(stdout);
  fprintf(stderr, "ERROR: %s\n", what.c_str());
  __sanitizer_print_stack_trace();
  _exit(86);
}

std::string quote(const std::string &s) {
  std::string out = "\"";
  for (unsigned char c : s) {
    if (c == '"' || c == '\\') (out += '\\') += c;
    else if (c < 32) { char b[8]; snprintf(b, sizeof b, "\\u%04x", c); out += b; }
    else out += c;
  }
  return out + "\"";
}
void tell(char kind, const std::string &json) { printf("%c %s\n", kind, json.c_str()); }

//--- Clock
long now_ms = 0, waited_ms = 0;         // UTC; of it, what socket calls waited in the current event
int broker_winter = 7200;
std::string broker_rule = "us";

struct Day { long year; unsigned month, day; };
long days_of(long y, unsigned m, unsigned d) {                       // since 1970 (Hinnant's algorithm)
  y -= m <= 2;
  const long era = (y >= 0 ? y : y - 399)/400;
  const unsigned yoe = (unsigned)(y - era*400), doy = (153*(m > 2 ? m - 3 : m + 9) + 2)/5 + d - 1;
  return era*146097 + (long)(yoe*365 + yoe/4 - yoe/100 + doy) - 719468;
}
Day day_of(long z) {
  z += 719468;
  const long era = (z >= 0 ? z : z - 146096)/146097;
  const unsigned doe = (unsigned)(z - era*146097), yoe = (doe - doe/1460 + doe/36524 - doe/146096)/365;
  const unsigned doy = doe - (365*yoe + yoe/4 - yoe/100), mp = (5*doy + 2)/153, month = mp < 10 ? mp + 3 : mp - 9;
  return {(long)yoe + era*400 + (month <= 2), month, doy - (153*mp + 2)/5 + 1};
}
int weekday(long days) { return (int)(((days + 4) % 7 + 7) % 7); }   // 0: Sunday
long floor_day(long t) { return (t >= 0 ? t : t - 86399)/86400; }
long sunday(long y, unsigned m, int nth) { long first = days_of(y, m, 1); return first + (7 - weekday(first))%7 + 7*(nth - 1); }
long last_sunday(long y, unsigned m) { long last = (m == 12 ? days_of(y + 1, 1, 1) : days_of(y, m + 1, 1)) - 1; return last - weekday(last); }
bool us_summer(long utc) { long y = day_of(floor_day(utc)).year; return utc >= sunday(y, 3, 2)*86400 + 7*3600 && utc < sunday(y, 11, 1)*86400 + 6*3600; }
bool eu_summer(long utc) { long y = day_of(floor_day(utc)).year; return utc >= last_sunday(y, 3)*86400 + 3600 && utc < last_sunday(y, 10)*86400 + 3600; }
int offset(long utc) { return broker_winter + ((broker_rule == "us" && us_summer(utc)) || (broker_rule == "eu" && eu_summer(utc)) ? 3600 : 0); }
long utc() { return now_ms/1000; }
void print(const std::string &s) { tell('P', "[" + std::to_string(utc()) + "," + quote(s) + "]"); }
void wait(long ms) { now_ms += ms; waited_ms += ms; }

//--- Candles
struct Bar { long utc; double open, high, low, close, volume; };
std::vector<Bar> bars;
long at = 0, bar_seconds = 3600;        // the bar that is open
double price = 0, high_now = 0, low_now = 0;
void load(const std::string &path) {
  std::ifstream in(path);
  std::string line;
  while (std::getline(in, line)) {
    Bar b;
    if (sscanf(line.c_str(), "%ld,%lf,%lf,%lf,%lf,%lf", &b.utc, &b.open, &b.high, &b.low, &b.close, &b.volume) == 6) bars.push_back(b);
  }
}
long broker_time(const Bar &b) { return b.utc + offset(b.utc); }

//--- Broker
struct Position { ulong ticket; int side; double lots, price, sl, tp; long time, bar, magic; double swap, commission; };
std::vector<Position> positions;
Position selected;
double balance = 10000, contract = 100000, spread = 0, commission = 0, leverage = 30, swap_long = 0, swap_short = 0;
double rate = 1;                         // the account's money for one unit of the quotes' currency
long tickets = 0, orders = 0, stops_level = 0, freeze_level = 0;
bool hedging = true, market_open = true;
std::map<long, uint> script;            // number of the order: return code
double bid() { return price; }
double ask() { return price + spread; }
double closing(const Position &p) { return p.side > 0 ? bid() : ask(); }
double profit_of(const Position &p, double exit) { return p.side*(exit - p.price)*p.lots*contract*rate; }
double equity() { double e = balance; for (auto &p : positions) e += profit_of(p, closing(p)) + p.swap; return e; }
double margin_used() { double m = 0; for (auto &p : positions) m += p.lots*contract*p.price*rate/leverage; return m; }

void end_part(Position &p, double lots, double exit, const char *reason) {
  Position part = p;
  part.lots = lots;
  double share = lots/p.lots, profit = profit_of(part, exit), swap = p.swap*share, fee = commission*lots*contract*exit*rate, paid = p.commission*share + fee;
  balance += profit + swap - fee;
  p.lots -= lots; p.swap -= swap; p.commission -= p.commission*share;
  std::ostringstream o;
  o.precision(17);
  o << "{\"ticket\":" << p.ticket << ",\"side\":" << p.side << ",\"lots\":" << lots << ",\"entry\":" << bars[p.bar].utc << ",\"exit\":" << bars[at].utc
    << ",\"entry_price\":" << p.price << ",\"exit_price\":" << exit << ",\"reason\":\"" << reason << "\",\"pnl\":" << profit + swap - paid
    << ",\"swap\":" << swap << ",\"commission\":" << paid << ",\"stop\":" << p.sl << ",\"target\":" << p.tp << "}";
  tell('T', o.str());
}
void drop_ended() { for (size_t k = positions.size(); k-- > 0;) if (positions[k].lots < 1e-12) positions.erase(positions.begin() + k); }
void end(Position &p, double exit, const char *reason) { end_part(p, p.lots, exit, reason); }

double nights(long from, long to) {      // rollovers at 17:00 New York in (from, to]; Wednesday's count three times
  static const double weight[7] = {0, 1, 1, 3, 1, 1, 0};
  double n = 0;
  for (long d = floor_day(from) - 1; d <= floor_day(to); d++) {
    long roll = d*86400 + 22*3600;
    if (us_summer(roll)) roll -= 3600;
    if (roll > from && roll <= to) n += weight[weekday(d)];
  }
  return n;
}
void open_bar(long k) {                  // rollover, and what a gap does to stops and targets
  at = k;
  price = high_now = low_now = bars[k].open;
  double n = k > 0 ? nights(bars[k - 1].utc, bars[k].utc) : 0;
  for (auto &p : positions) {
    p.swap += n*p.lots*contract*rate*(p.side > 0 ? swap_long : swap_short);
    double now = closing(p);
    if (p.sl > 0 && p.side*(now - p.sl) <= 0) end(p, now, "stop");
    else if (p.tp > 0 && p.side*(now - p.tp) >= 0) end(p, p.tp, "target");
  }
  drop_ended();
}
void inside_bar() {                      // the stop before the target: which came first is not in a candle
  const Bar &b = bars[at];
  for (auto &p : positions) {
    double worst = p.side > 0 ? b.low : b.high + spread, best = p.side > 0 ? b.high : b.low + spread;
    if (p.sl > 0 && p.side*(worst - p.sl) <= 0) end(p, p.sl, "stop");
    else if (p.tp > 0 && p.side*(best - p.tp) >= 0) end(p, p.tp, "target");
  }
  drop_ended();
  price = b.close; high_now = b.high; low_now = b.low;
}
double volume_step() { return number("volume_step", 0.01); }
bool stops_ok(int side, double sl, double tp) {
  double from = side > 0 ? bid() : ask(), least = stops_level*_Point - 1e-12;
  return (sl <= 0 || side*(from - sl) > least) && (tp <= 0 || side*(tp - from) > least) && sl >= 0 && tp >= 0;
}
uint scripted() { orders++; auto i = script.find(orders); return i == script.end() ? 0 : i->second; }
void order_told(const char *what, int side, double lots, uint code) {
  std::ostringstream o;
  o << "{\"what\":\"" << what << "\",\"side\":" << side << ",\"lots\":" << lots << ",\"bar\":" << bars[at].utc << ",\"code\":" << code << "}";
  tell('O', o.str());
}
void fill(int side, double lots, double sl, double tp, ulong magic) {
  double at_price = side > 0 ? ask() : bid(), paid = commission*lots*contract*at_price*rate;
  balance -= paid;
  if (!hedging) for (auto &p : positions) {
    if (p.side == side) { p.price = (p.price*p.lots + at_price*lots)/(p.lots + lots); p.lots += lots; p.commission += paid; p.sl = sl; p.tp = tp; return; }
    double part = lots < p.lots ? lots : p.lots;
    end_part(p, part, at_price, "signal");
    lots -= part;
  }
  drop_ended();
  if (lots > 1e-12) positions.push_back({(ulong)++tickets, side, lots, at_price, sl, tp, utc() + offset(utc()), at, (long)magic, 0, paid});
}

//--- Sockets
int last_error = 0;
struct Socket {
  int fd = -1;
  bool open = true, connected = false, tls = false;
  long sent = 0, received = 0, receive_ms = 0;
  std::string out, in;                  // unfinished lines, for the record
  long owed = 0;                        // requests without an answer
#if HAS_TLS
  SSL *ssl = nullptr;
#endif
};
std::vector<Socket> sockets;
std::ofstream wire;
long connections = 0, nul_bytes = 0, reads_of_nothing = 0, most_asked = 0;
Socket *find(int handle) {
  if (handle < 0 || handle >= (int)sockets.size() || !sockets[handle].open) { last_error = 5270; return nullptr; }
  return &sockets[handle];
}
Socket *live() { for (auto &s : sockets) if (s.open && s.connected) return &s; return nullptr; }
int readable(const Socket &s) { int n = 0; ioctl(s.fd, FIONREAD, &n); return n; }
int broken(Socket &s) { s.connected = false; last_error = 5273; return -1; }
void record(Socket &s, std::string &rest, const char *data, long n, bool mine) {
  for (long k = 0; k < n; k++) {
    if (mine && data[k] == 0) nul_bytes++;
    if (data[k] != '\n') { rest += data[k]; continue; }
    if (wire.is_open()) wire << (mine ? "> " : "< ") << rest << "\n";
    bool counts = rest.find(mine ? "\"type\":\"pong\"" : "\"type\":\"ping\"") == std::string::npos;
    if (counts) s.owed += mine ? 1 : -1;
    rest.clear();
  }
}
//--- The bridge lives today, the terminal in the year of its candles: the clocks of a hello are moved from one to the other
std::string leaving(const Array<uchar> &buffer, long n) {
  std::string bytes((const char *)buffer.data(), (size_t)n);
  if (number("today", 1) > 0) for (const char *key : {"\"broker_time\":", "\"gmt_time\":"}) {
    size_t k = bytes.find(key), from = k + strlen(key), end = bytes.find_first_not_of("0123456789", from);
    if (k == std::string::npos || end == std::string::npos) continue;
    std::string moved = std::to_string(std::stol(bytes.substr(from, end - from)) + (long)time(nullptr) - utc());
    if (moved.size() != end - from) die("the clock of a hello has another length");
    bytes.replace(from, end - from, moved);
  }
  return bytes;
}
int took(Socket &s, Array<uchar> &buffer, const std::vector<char> &data, long n) {
  if (buffer.size() < n) buffer.resize(n);
  for (long k = 0; k < n; k++) buffer[k] = (uchar)data[k];
  s.received += n;
  record(s, s.in, data.data(), n, false);
  return (int)n;
}

//--- The faulty network in front of the bridge says when everything that is due has come
int control = -1;
long pending_pieces = 0;
void control_line(const std::string &out, std::string &in) {
  std::string m = out + "\n";
  if (::send(control, m.data(), m.size(), MSG_NOSIGNAL) != (long)m.size()) die("the proxy is gone");
  char c;
  while (true) {
    if (recv(control, &c, 1, 0) != 1) die("the proxy is gone");
    if (c == '\n') return;
    in += c;
  }
}
void settle() {
  Socket *s = live();
  if (control < 0) {
    if (s && s->owed > 0 && !readable(*s)) { pollfd p{s->fd, POLLIN, 0}; if (poll(&p, 1, PATIENCE_MS) == 0) die("the bridge has not answered"); }
    return;
  }
  std::string said;
  control_line("sync " + std::to_string(s ? connections : 0) + " " + std::to_string(s ? s->sent : 0) + " " + std::to_string(now_ms), said);
  long delivered = 0, closed = 0;
  sscanf(said.c_str(), "%ld %ld %ld", &delivered, &closed, &pending_pieces);
  if (!s) return;
  if (closed) { pollfd p{s->fd, POLLRDHUP, 0}; poll(&p, 1, PATIENCE_MS); return; }   // a reset loses what was not read
  timespec pause{0, 200000};
  for (long k = 0; s->received + readable(*s) < delivered; k++) { if (k > PATIENCE_MS*5L) die("what the proxy sent did not come"); nanosleep(&pause, nullptr); }
}

//--- The chart
std::map<std::string, std::map<int, std::string>> objects;
std::map<std::string, double> variables;
std::string comment;
long drawn = 0;
int timer_ms = 0;

void set(string &input, const std::string &value) { input = string::utf8(value); }
}
using namespace sim;

// Text
string string::utf8(const std::string &b) {
  std::u16string out;
  for (size_t k = 0; k < b.size();) {
    unsigned char c = (unsigned char)b[k];
    int n = c < 0x80 ? 1 : c >> 5 == 6 ? 2 : c >> 4 == 14 ? 3 : c >> 3 == 30 ? 4 : 0;
    if (!n || k + n > b.size()) { out += u'\uFFFD'; k++; continue; }
    uint32_t code = n == 1 ? c : c & (0x7F >> n);
    for (int i = 1; i < n; i++) code = code << 6 | ((unsigned char)b[k + i] & 0x3F);
    if (code > 0xFFFF) { code -= 0x10000; out += (char16_t)(0xD800 + (code >> 10)); out += (char16_t)(0xDC00 + (code & 0x3FF)); }
    else out += (char16_t)code;
    k += n;
  }
  return string(out);
}
std::string string::utf8() const {
  std::string out;
  for (size_t k = 0; k < s.size(); k++) {
    uint32_t c = s[k];
    if (c >> 10 == 0x36 && k + 1 < s.size()) c = 0x10000 + ((c & 0x3FF) << 10) + (s[++k] & 0x3FF);
    if (c < 0x80) out += (char)c;
    else if (c < 0x800) { out += (char)(0xC0 | c >> 6); out += (char)(0x80 | (c & 63)); }
    else if (c < 0x10000) { out += (char)(0xE0 | c >> 12); out += (char)(0x80 | (c >> 6 & 63)); out += (char)(0x80 | (c & 63)); }
    else { out += (char)(0xF0 | c >> 18); out += (char)(0x80 | (c >> 12 & 63)); out += (char)(0x80 | (c >> 6 & 63)); out += (char)(0x80 | (c & 63)); }
  }
  return out;
}
int StringLen(const string &t) { return (int)t.units().size(); }
ushort StringGetCharacter(const string &t, int k) { sim::work++; return k < 0 || k >= StringLen(t) ? 0 : t.units()[k]; }
string StringSubstr(const string &t, int from, int length) {
  if (from < 0 || from >= StringLen(t)) return string();
  return string(t.units().substr(from, length < 0 ? std::u16string::npos : (size_t)length));
}
int StringFind(const string &t, const string &part, int from) { sim::work += StringLen(t); return (int)(long)t.units().find(part.units(), from); }
int StringReplace(string &t, const string &part, const string &by) {
  std::u16string s = t.units();
  int n = 0;
  for (size_t k = 0; (k = s.find(part.units(), k)) != std::u16string::npos; k += by.units().size(), n++) s.replace(k, part.units().size(), by.units());
  t = string(s);
  return n;
}
int StringSplit(const string &t, ushort separator, Array<string> &parts) {
  std::u16string s = t.units(), part;
  std::vector<string> found;
  for (char16_t c : s) { if (c == separator) { found.push_back(string(part)); part.clear(); } else part += c; }
  found.push_back(string(part));
  parts.resize((long)found.size());
  for (size_t k = 0; k < found.size(); k++) parts[k] = found[k];
  return (int)found.size();
}
int StringTrimLeft(string &t) { std::u16string s = t.units(); size_t n = s.find_first_not_of(u" \t\r\n"); n = n == s.npos ? s.size() : n; t = string(s.substr(n)); return (int)n; }
int StringTrimRight(string &t) { std::u16string s = t.units(); size_t n = s.find_last_not_of(u" \t\r\n") + 1; int cut = (int)(s.size() - n); t = string(s.substr(0, n)); return cut; }
int StringToCharArray(const string &t, Array<uchar> &bytes, int start, int count, uint codepage) {
  std::string s = t.utf8();
  if (codepage != CP_UTF8) for (char &c : s) if (c & 0x80) c = '?';
  if (count < 0) s += '\0';                                          // the end of the text is a part of it
  else s.resize(std::min((size_t)count, s.size()));
  if (bytes.size() < start + (long)s.size()) bytes.resize(start + (long)s.size());
  for (size_t k = 0; k < s.size(); k++) bytes[start + (long)k] = (uchar)s[k];
  return (int)s.size();
}
string CharArrayToString(const Array<uchar> &bytes, int start, int count, uint codepage) {
  std::string s;
  for (long k = start; k < bytes.size() && (count < 0 || k < start + count) && bytes[k]; k++) s += (char)(codepage == CP_UTF8 || bytes[k] < 0x80 ? bytes[k] : '?');
  return string::utf8(s);
}
double StringToDouble(const string &t) { return strtod(t.utf8().c_str(), nullptr); }
string DoubleToString(double v, int digits) { char b[400]; snprintf(b, sizeof b, "%.*f", digits, v); return string::utf8(b); }
string IntegerToString(long v) { return string::utf8(std::to_string(v)); }
string ShortToString(ushort c) { return string(std::u16string(1, (char16_t)c)); }
string TimeToString(datetime t, int mode) {
  MqlDateTime d;
  TimeToStruct(t, d);
  char b[80], *p = b;
  if (mode & TIME_DATE) p += sprintf(p, "%04d.%02d.%02d ", d.year, d.mon, d.day);
  if (mode & TIME_SECONDS) p += sprintf(p, "%02d:%02d:%02d ", d.hour, d.min, d.sec);
  else if (mode & TIME_MINUTES) p += sprintf(p, "%02d:%02d ", d.hour, d.min);
  return string::utf8(std::string(b, p - 1));
}
string EnumToString(ENUM_TIMEFRAMES p) {
  switch (p) {
    case PERIOD_M1: return S("PERIOD_M1"); case PERIOD_M5: return S("PERIOD_M5"); case PERIOD_M15: return S("PERIOD_M15"); case PERIOD_M30: return S("PERIOD_M30");
    case PERIOD_H1: return S("PERIOD_H1"); case PERIOD_H4: return S("PERIOD_H4"); case PERIOD_D1: return S("PERIOD_D1"); case PERIOD_W1: return S("PERIOD_W1");
    case PERIOD_MN1: return S("PERIOD_MN1"); default: return S("PERIOD_CURRENT");
  }
}
double NormalizeDouble(double x, int digits) { double m = std::pow(10., digits); return std::round(x*m)/m; }

// Time
datetime TimeTradeServer() { return utc() + offset(utc()); }
datetime TimeGMT() { return utc() + (long)number("pc_error", 0); }
ulong GetTickCount64() { return (ulong)(now_ms - bars[0].utc*1000 + 1000000); }
int TimeToStruct(datetime t, MqlDateTime &d) {
  long days = floor_day(t), s = t - days*86400;
  Day day = day_of(days);
  d = {(int)day.year, (int)day.month, (int)day.day, (int)(s/3600), (int)(s/60%60), (int)(s%60), weekday(days), (int)(days - days_of(day.year, 1, 1))};
  return 1;
}
datetime StructToTime(const MqlDateTime &d) { return days_of(d.year, (unsigned)d.mon, (unsigned)d.day)*86400 + d.hour*3600 + d.min*60 + d.sec; }
bool EventSetMillisecondTimer(int ms) { timer_ms = ms; return true; }
void EventKillTimer() { timer_ms = 0; }
int PeriodSeconds(ENUM_TIMEFRAMES) { return (int)bar_seconds; }

// Market
int CopyRates(const string &symbol, ENUM_TIMEFRAMES, int start, int count, Array<MqlRates> &rates) {
  if (symbol != _Symbol) { last_error = 4301; return -1; }
  long last = at - start, first = std::max(0L, last - count + 1);
  if (last < 0) return -1;
  rates.resize(last - first + 1);
  for (long k = first; k <= last; k++) {
    const Bar &b = bars[k];
    bool open = k == at;
    rates[k - first] = {broker_time(b), b.open, open ? high_now : b.high, open ? low_now : b.low, open ? price : b.close,
                        (long)b.volume, (int)std::round(spread/_Point), (long)b.volume};
  }
  return (int)(last - first + 1);
}
datetime iTime(const string &symbol, ENUM_TIMEFRAMES, int shift) { return symbol == _Symbol && shift >= 0 && at - shift >= 0 ? broker_time(bars[at - shift]) : 0; }
int iBarShift(const string &symbol, ENUM_TIMEFRAMES, datetime t, bool) {
  if (symbol != _Symbol) return -1;
  for (long k = at; k >= 0; k--) if (broker_time(bars[k]) <= t) return (int)(at - k);
  return -1;
}
bool SymbolInfoTick(const string &symbol, MqlTick &t) {
  if (symbol != _Symbol) return false;
  t = {TimeTradeServer(), bid(), ask(), 0, 0, TimeTradeServer()*1000, 0, 0};
  return true;
}
long SymbolInfoInteger(const string &, ENUM_SYMBOL_INFO_INTEGER what) {
  switch (what) {
    case SYMBOL_SPREAD: return (long)std::round(spread/_Point);
    case SYMBOL_TRADE_STOPS_LEVEL: return stops_level;
    case SYMBOL_TRADE_FREEZE_LEVEL: return freeze_level;
    default: return _Digits;
  }
}
double SymbolInfoDouble(const string &, ENUM_SYMBOL_INFO_DOUBLE what) {
  switch (what) {
    case SYMBOL_BID: return bid();
    case SYMBOL_ASK: return ask();
    case SYMBOL_POINT: case SYMBOL_TRADE_TICK_SIZE: return _Point;
    case SYMBOL_TRADE_TICK_VALUE_LOSS: return number("no_tick_value", 0) > 0 ? 0 : _Point*contract*rate;
    case SYMBOL_TRADE_CONTRACT_SIZE: return contract;
    case SYMBOL_VOLUME_MIN: return number("volume_min", volume_step());
    case SYMBOL_VOLUME_MAX: return number("volume_max", 500);
    default: return volume_step();
  }
}

// Terminal
long MQLInfoInteger(int what) { return what == MQL_TESTER ? (long)number("tester", 0) : (long)number("algo", 1); }
long TerminalInfoInteger(int) { return (long)number("algo", 1); }
long AccountInfoInteger(ENUM_ACCOUNT_INFO_INTEGER what) {
  return what == ACCOUNT_MARGIN_MODE ? (hedging ? ACCOUNT_MARGIN_MODE_RETAIL_HEDGING : ACCOUNT_MARGIN_MODE_RETAIL_NETTING) : 1;
}
double AccountInfoDouble(ENUM_ACCOUNT_INFO_DOUBLE what) { return what == ACCOUNT_BALANCE ? balance : what == ACCOUNT_EQUITY ? equity() : equity() - margin_used(); }
int GetLastError() { return last_error; }
void ResetLastError() { last_error = 0; }
datetime GlobalVariableSet(const string &name, double v) { variables[name.utf8()] = v; return TimeTradeServer(); }
double GlobalVariableGet(const string &name) { auto i = variables.find(name.utf8()); return i == variables.end() ? 0 : i->second; }
bool GlobalVariableCheck(const string &name) { return variables.count(name.utf8()) > 0; }
void Comment(const string &t) { comment = t.utf8(); }
bool ObjectCreate(long, const string &name, ENUM_OBJECT type, int, datetime t1, double p1, datetime t2, double p2) {
  std::ostringstream o;
  o.precision(10);
  o << type << "," << t1 << "," << p1 << "," << t2 << "," << p2;
  drawn++;
  return objects.insert({name.utf8(), {{-1, o.str()}}}).second;
}
bool ObjectDelete(long, const string &name) { return objects.erase(name.utf8()) > 0; }
int ObjectsDeleteAll(long, const string &prefix) {
  int n = 0;
  for (auto i = objects.begin(); i != objects.end();) if (i->first.rfind(prefix.utf8(), 0) == 0) { i = objects.erase(i); n++; } else ++i;
  return n;
}
bool ObjectSetInteger(long, const string &name, ENUM_OBJECT_PROPERTY_INTEGER what, long v) {
  auto i = objects.find(name.utf8());
  if (i == objects.end()) { last_error = 4202; return false; }
  i->second[what] = std::to_string(v);
  return true;
}
bool ObjectSetString(long, const string &name, ENUM_OBJECT_PROPERTY_STRING what, const string &v) {
  auto i = objects.find(name.utf8());
  if (i == objects.end()) { last_error = 4202; return false; }
  i->second[100 + what] = v.utf8();
  return true;
}
void ChartRedraw(long) {}

// Sockets
int SocketCreate(uint) {
  int open = 0;
  for (auto &s : sockets) open += s.open;
  if (open >= 128) { last_error = 5271; return INVALID_HANDLE; }
  sockets.push_back(Socket());
  return (int)sockets.size() - 1;
}
void SocketClose(int handle) {
  Socket *s = find(handle);
  if (!s) return;
#if HAS_TLS
  if (s->ssl) { SSL_shutdown(s->ssl); SSL_free(s->ssl); s->ssl = nullptr; }
#endif
  if (s->fd >= 0) close(s->fd);
  s->open = s->connected = false;
}
bool SocketConnect(int handle, const string &server, uint port, uint timeout_ms) {
  Socket *s = find(handle);
  if (!s) return false;
  if (("," + text("allow", "127.0.0.1") + ",").find("," + server.utf8() + ",") == std::string::npos) { last_error = 4014; return false; }
  addrinfo hints{}, *found = nullptr;
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  last_error = 5272;
  if (getaddrinfo(server.utf8().c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return false;
  s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool ok = connect(s->fd, found->ai_addr, found->ai_addrlen) == 0;
  freeaddrinfo(found);
  if (!ok && errno == ETIMEDOUT) wait(timeout_ms);
  if (!ok) return false;
  int one = 1;
  setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  s->connected = true;
  connections++;
  last_error = 0;
  return true;
}
bool SocketIsConnected(int handle) { Socket *s = find(handle); return s && s->connected; }   // what an earlier call has noticed, no more
uint SocketIsReadable(int handle) {
  Socket *s = find(handle);
  if (!s || !s->connected) { if (s) last_error = 5273; return 0; }
  int n = readable(*s);
  return n > 0 ? (uint)n : 1;                                        // it does not know before it has tried
}
bool SocketIsWritable(int handle) { Socket *s = find(handle); if (!s || !s->connected) return false; pollfd p{s->fd, POLLOUT, 0}; return poll(&p, 1, 0) > 0; }
bool SocketTimeouts(int handle, uint, uint receive_ms) { Socket *s = find(handle); if (s) s->receive_ms = receive_ms; return s; }
int SocketRead(int handle, Array<uchar> &buffer, uint maxlen, uint timeout_ms) {
  Socket *s = find(handle);
  if (!s) return -1;
  if (!s->connected) return broken(*s);
  most_asked = std::max(most_asked, (long)maxlen);
  std::vector<char> data(maxlen);
  long n = recv(s->fd, data.data(), maxlen, MSG_DONTWAIT);
  bool ended = n == 0 || (n < 0 && errno != EAGAIN);
  if (ended) return broken(*s);
  if (n < (long)maxlen) wait(timeout_ms == 0 ? 120000 : timeout_ms); // for the rest
  if (n < 0) { reads_of_nothing++; last_error = 5273; return -1; }   // a time-out has the code of an error
  return took(*s, buffer, data, n);
}
int SocketSend(int handle, const Array<uchar> &buffer, uint length) {
  Socket *s = find(handle);
  if (!s) return -1;
  if (!s->connected) return broken(*s);
  if (length > buffer.size()) die("SocketSend: more bytes than the array has");
  std::string bytes = leaving(buffer, std::min((long)length, (long)number("send_max", 1e9)));
  long n = ::send(s->fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n < 0 && errno != EAGAIN) return broken(*s);
  if (n < 0) return 0;
  s->sent += n;
  record(*s, s->out, (const char *)buffer.data(), n, true);
  return (int)n;
}
#if HAS_TLS
bool SocketTlsHandshake(int handle, const string &host) {
  Socket *s = find(handle);
  if (!s || !s->connected) return false;
  static SSL_CTX *context = nullptr;
  if (!context) {
    context = SSL_CTX_new(TLS_client_method());
    if (settings.count("tls_ca")) SSL_CTX_load_verify_locations(context, settings["tls_ca"].c_str(), nullptr);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  }
  timeval limit{PATIENCE_MS/1000, 0};
  setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  s->ssl = SSL_new(context);
  X509_VERIFY_PARAM *check = SSL_get0_param(s->ssl);
  if (!X509_VERIFY_PARAM_set1_ip_asc(check, host.utf8().c_str())) X509_VERIFY_PARAM_set1_host(check, host.utf8().c_str(), 0);
  SSL_set_fd(s->ssl, s->fd);
  s->tls = SSL_connect(s->ssl) == 1;
  if (!s->tls) { s->connected = false; last_error = 5274; return false; }
  fcntl(s->fd, F_SETFL, fcntl(s->fd, F_GETFL) | O_NONBLOCK);
  return true;
}
int SocketTlsReadAvailable(int handle, Array<uchar> &buffer, uint maxlen) {
  Socket *s = find(handle);
  if (!s) return -1;
  if (!s->connected || !s->tls) return broken(*s);
  std::vector<char> data(maxlen);
  ERR_clear_error();
  int n = SSL_read(s->ssl, data.data(), (int)maxlen);
  if (n > 0) return took(*s, buffer, data, n);
  return SSL_get_error(s->ssl, n) == SSL_ERROR_WANT_READ ? 0 : broken(*s);
}
int SocketTlsRead(int handle, Array<uchar> &buffer, uint maxlen) {
  int n = SocketTlsReadAvailable(handle, buffer, maxlen);
  if (n >= 0 && n < (int)maxlen) wait(sockets[handle].receive_ms ? sockets[handle].receive_ms : 120000);
  if (n == 0) { last_error = 5273; return -1; }
  return n;
}
int SocketTlsSend(int handle, const Array<uchar> &buffer, uint length) {
  Socket *s = find(handle);
  if (!s) return -1;
  if (!s->connected || !s->tls) return broken(*s);
  if (length > buffer.size()) die("SocketTlsSend: more bytes than the array has");
  ERR_clear_error();
  std::string bytes = leaving(buffer, length);
  int n = SSL_write(s->ssl, bytes.data(), (int)length);
  if (n <= 0) return SSL_get_error(s->ssl, n) == SSL_ERROR_WANT_WRITE ? 0 : broken(*s);
  s->sent += n;
  record(*s, s->out, (const char *)buffer.data(), n, true);
  return n;
}
#else
bool SocketTlsHandshake(int, const string &) { last_error = 5274; return false; }
int SocketTlsRead(int, Array<uchar> &, uint) { last_error = 5273; return -1; }
int SocketTlsReadAvailable(int, Array<uchar> &, uint) { last_error = 5273; return -1; }
int SocketTlsSend(int, const Array<uchar> &, uint) { last_error = 5273; return -1; }
#endif

// Trade
bool OrderCalcProfit(ENUM_ORDER_TYPE type, const string &, double volume, double open, double close, double &profit) {
  profit = (type == ORDER_TYPE_BUY ? 1 : -1)*(close - open)*volume*contract*rate;
  return true;
}
bool OrderCalcMargin(ENUM_ORDER_TYPE, const string &, double volume, double price_, double &margin) { margin = volume*contract*price_*rate/leverage; return true; }
int PositionsTotal() { return (int)positions.size(); }
ulong PositionGetTicket(int k) {
  if (k < 0 || k >= (int)positions.size()) return 0;
  selected = positions[k];
  return selected.ticket;
}
bool PositionSelectByTicket(ulong ticket) {
  for (auto &p : positions) if (p.ticket == ticket) { selected = p; return true; }
  return false;
}
long PositionGetInteger(ENUM_POSITION_PROPERTY_INTEGER what) {
  return what == POSITION_TICKET ? (long)selected.ticket : what == POSITION_TIME ? selected.time : what == POSITION_MAGIC ? selected.magic : (long)(selected.side > 0 ? POSITION_TYPE_BUY : POSITION_TYPE_SELL);
}
string PositionGetString(ENUM_POSITION_PROPERTY_STRING what) { return what == POSITION_SYMBOL ? _Symbol : string(); }
bool CTrade::deal(int side, double volume, const string &symbol, double sl, double tp) {
  uint said = scripted();
  double step = volume_step(), off = std::fabs(volume/step - std::round(volume/step));
  (void)deviation;
  if (symbol != _Symbol || volume < SymbolInfoDouble(symbol, SYMBOL_VOLUME_MIN) - 1e-12 || volume > SymbolInfoDouble(symbol, SYMBOL_VOLUME_MAX) || off > 1e-6) retcode = TRADE_RETCODE_INVALID_VOLUME;
  else if (!filled_by_symbol) retcode = TRADE_RETCODE_INVALID_FILL;
  else if (!stops_ok(side, sl, tp)) retcode = TRADE_RETCODE_INVALID_STOPS;
  else if (volume*contract*bid()*rate/leverage > equity() - margin_used() + 1e-6) retcode = TRADE_RETCODE_NO_MONEY;
  else if (said == 0 || said == TRADE_RETCODE_PLACED || said == TRADE_RETCODE_TIMEOUT) { fill(side, volume, sl, tp, magic); retcode = said ? said : TRADE_RETCODE_DONE; }
  else if (said == TRADE_RETCODE_DONE_PARTIAL) { fill(side, std::round(volume/step/2)*step, sl, tp, magic); retcode = said; }
  else { retcode = said; if (said == TRADE_RETCODE_REQUOTE) price += number("requote", 0)*_Point; }
  order_told(side > 0 ? "buy" : "sell", side, volume, retcode);
  return retcode == TRADE_RETCODE_DONE || retcode == TRADE_RETCODE_PLACED || retcode == TRADE_RETCODE_DONE_PARTIAL;
}
bool CTrade::Buy(double volume, const string &symbol, double, double sl, double tp, const string &) { return deal(1, volume, symbol, sl, tp); }
bool CTrade::Sell(double volume, const string &symbol, double, double sl, double tp, const string &) { return deal(-1, volume, symbol, sl, tp); }
bool CTrade::PositionClose(ulong ticket, ulong) {
  uint said = scripted();
  retcode = TRADE_RETCODE_POSITION_CLOSED;
  for (auto &p : positions) {
    if (p.ticket != ticket) continue;
    double now = closing(p), near = freeze_level*_Point;
    bool frozen = near > 0 && ((p.sl > 0 && std::fabs(now - p.sl) <= near) || (p.tp > 0 && std::fabs(now - p.tp) <= near));
    retcode = frozen ? TRADE_RETCODE_FROZEN : said ? said : TRADE_RETCODE_DONE;
    if (!frozen && (said == 0 || said == TRADE_RETCODE_PLACED)) end(p, now, "signal");
  }
  drop_ended();
  order_told("close", 0, 0, retcode);
  return retcode == TRADE_RETCODE_DONE;
}
string CTrade::ResultRetcodeDescription() const {
  static const std::map<uint, const char *> words = {{10004, "requote"}, {10006, "rejected"}, {10008, "order placed"}, {10009, "done"}, {10010, "done partially"},
    {10012, "timed out"}, {10014, "invalid volume"}, {10016, "invalid stops"}, {10018, "market closed"}, {10019, "not enough money"}, {10020, "prices changed"},
    {10021, "off quotes"}, {10029, "frozen"}, {10030, "invalid fill"}, {10036, "position closed"}};
  auto i = words.find(retcode);
  return string::utf8(i == words.end() ? "unknown" : i->second);
}

// Driver
namespace sim {
const double TOUCHES_A_MS = 1e5;          // elements of arrays and texts: a slow machine's
long work = 0, calls = 0;
double worst = 0;                         // milliseconds of one event: waiting, and work by its count, never by a clock
void event(void (*handler)()) {
  waited_ms = work = 0;
  handler();
  worst = std::max(worst, (double)waited_ms + (double)work/TOUCHES_A_MS);
  calls++;
}
long traffic() { long n = connections; for (auto &s : sockets) n += s.sent + s.received; return n; }
void turn_until_quiet() {                 // timer calls, until nothing is said any more
  int quiet = 0;
  for (int k = 0; quiet < 2 && k < 2000 && timer_ms > 0; k++) {
    long before = traffic();
    now_ms += timer_ms;
    event(OnTimer);
    settle();
    Socket *s = live();
    bool still = traffic() == before && !pending_pieces && !(s && readable(*s)) && !(control < 0 && s && s->owed > 0);
    quiet = still ? quiet + 1 : 0;
  }
}
void at_second(long second) { now_ms = std::max(now_ms, bars[at].utc*1000 + second*1000); turn_until_quiet(); }
std::vector<long> phases() {
  std::istringstream in(text("phases", "1,5,70,1800"));
  std::vector<long> out;
  for (std::string p; std::getline(in, p, ',');) out.push_back(std::stol(p));
  return out;
}
void run_bar(long k) {
  now_ms = std::max(now_ms, bars[k].utc*1000);
  open_bar(k);
  event(OnTick);
  bool inside = false;
  for (long second : phases()) {
    if (second >= 60 && !inside) { inside_bar(); inside = true; event(OnTick); }
    at_second(second);
  }
  if (!inside) inside_bar();
  event(OnTimer);                         // it sees how the bar has ended
  std::ostringstream o;
  o.precision(17);
  o << "{\"bar\":" << bars[k].utc << ",\"equity\":" << equity() << ",\"positions\":" << positions.size() << "}";
  tell('E', o.str());
}
void load_variables(const std::string &path) {    // what outlives the EA
  std::ifstream in(path);
  std::string name;
  for (double v; in >> name >> v;) variables[name] = v;
}
void save_variables(const std::string &path) {
  std::ofstream out(path);
  out.precision(17);
  for (auto &[name, v] : variables) out << name << " " << v << "\n";
}
void configure() {
  _Symbol = string::utf8(text("symbol", "EURUSD"));
  _Digits = (int)number("digits", 5);
  _Point = std::pow(10., -_Digits);
  broker_rule = text("clock", "us");
  broker_winter = (int)number("offset", 7200);
  balance = number("balance", 10000); spread = number("spread", 0); commission = number("commission", 0); leverage = number("leverage", 30); rate = number("rate", 1);
  swap_long = number("swap_long", 0); swap_short = number("swap_short", 0);
  stops_level = (long)number("stops_level", 0); freeze_level = (long)number("freeze_level", 0);
  hedging = text("account", "hedging") == "hedging";
  bar_seconds = (long)number("bar", 3600);
  std::istringstream in(text("script", ""));
  for (std::string p; std::getline(in, p, ',');) script[std::stol(p)] = (uint)std::stoul(p.substr(p.find(':') + 1));
  if (settings.count("variables")) load_variables(settings["variables"]);
  if (settings.count("wire")) wire.open(settings["wire"]);
  if (settings.count("control")) {
    control = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in a{};
    a.sin_family = AF_INET; a.sin_port = htons((uint16_t)number("control", 0)); a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(control, (sockaddr *)&a, sizeof a) != 0) die("no proxy");
    int one = 1;
    setsockopt(control, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  }
}
void summary(int init) {
  long open = 0;
  for (auto &s : sockets) open += s.open;
  std::ostringstream o;
  o.precision(17);
  o << "{\"init\":" << init << ",\"balance\":" << balance << ",\"worst_ms\":" << worst << ",\"timer_calls\":" << calls
    << ",\"connections\":" << connections << ",\"open_sockets\":" << open << ",\"nul_bytes\":" << nul_bytes << ",\"reads_of_nothing\":" << reads_of_nothing
    << ",\"most_asked\":" << most_asked << ",\"drawn\":" << drawn << ",\"objects\":" << objects.size() << ",\"orders\":" << orders << ",\"timer\":" << timer_ms << "}";
  tell('R', o.str());
}
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  for (int k = 1; k < argc; k++) {
    std::string a = argv[k];
    settings[a.substr(0, a.find('='))] = a.substr(a.find('=') + 1);
  }
  load(text("candles", ""));
  if (bars.size() < 2) die("candles=FILE: seconds since 1970 (UTC), open, high, low, close, volume");
  configure();
  for (auto &[key, value] : settings)
    if (key.rfind("set:", 0) == 0 && !set_input(key.substr(4), value)) die("the EA has no input " + key.substr(4));
  long first = (long)number("start", 600), last = std::min((long)bars.size(), first + (long)number("bars", 1e9));
  now_ms = bars[first].utc*1000;
  open_bar(first);
  if (number("foreign", 0) > 0) fill(1, number("foreign", 0), 0, 0, 1);      // a position that the EA has not opened
  int init = OnInit();
  if (init == INIT_SUCCEEDED) {
    for (long k = first; k < last; k++) run_bar(k);
    if (!comment.empty()) tell('C', quote(comment));
    for (auto &[name, what] : objects) tell('D', quote(name + " " + what[-1]));
    OnDeinit(1);
  }
  for (auto &p : positions) end(p, closing(p), "end");
  drop_ended();
  if (settings.count("variables")) save_variables(settings["variables"]);
  summary(init);
  return 0;
}
