// MQL5 as far as Natron.mq5 uses it: types, declarations and the standard library's CTrade. The terminal is in sim.cpp.
// What follows "//: API" is offered to the EA; preprocess.py refuses every other name.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef long datetime;
typedef int color;
static_assert(sizeof(long) == 8 && sizeof(int) == 4, "MQL5's long has 8 bytes");

namespace sim {
[[noreturn]] void die(const std::string &what);             // with the line of the .mq5 file
extern long work;                                           // elements of arrays and texts that were touched
inline void check(long i, long n) { work++; if (i < 0 || i >= n) die("array out of range: element " + std::to_string(i) + " of " + std::to_string(n)); }
}

class string {
  std::u16string s;
public:
  string() {}
  string(const string &o) : s(o.s) { sim::work += (long)s.size(); }
  string &operator=(const string &o) { s = o.s; sim::work += (long)s.size(); return *this; }
  explicit string(const std::u16string &text) : s(text) { sim::work += (long)s.size(); }
  static string utf8(const std::string &bytes);
  std::string utf8() const;
  const std::u16string &units() const { return s; }
  string operator+(const string &o) const { return string(s + o.s); }
  string &operator+=(const string &o) { s += o.s; sim::work += (long)o.s.size(); return *this; }
  bool operator==(const string &o) const { return s == o.s; }
  bool operator!=(const string &o) const { return s != o.s; }
  bool operator<(const string &o) const { return s < o.s; }
};
inline string MQL_TEXT(const char *literal, size_t n) { return string::utf8(std::string(literal, n)); }
#define S(literal) MQL_TEXT(literal, sizeof(literal) - 1)

// A dynamic array. What ArrayResize adds holds garbage, as in MetaTrader.
template <class T> class Array {
  std::vector<T> v;
  long room = 0;                                             // elements that fit without being moved
public:
  Array() {}
  Array(std::initializer_list<T> items) : v(items) {}
  T &operator[](long i) { sim::check(i, v.size()); return v[i]; }
  const T &operator[](long i) const { sim::check(i, v.size()); return v[i]; }
  long size() const { return v.size(); }
  T *data() { return v.data(); }
  const T *data() const { return v.data(); }
  void resize(long n, long reserve = 0) {
    long old = v.size();
    if (n > room) { sim::work += n; room = n + reserve; }
    v.resize(n);
    if constexpr (std::is_trivially_copyable_v<T>) if (n > old) memset((void *)(v.data() + old), 0xCD, (n - old)*sizeof(T));
  }
  void erase(long from, long n) { sim::work += (long)v.size() - from; v.erase(v.begin() + from, v.begin() + from + n); }
};

//: API types
struct MqlRates { datetime time; double open, high, low, close; long tick_volume; int spread; long real_volume; };
struct MqlTick { datetime time; double bid, ask, last; ulong volume; long time_msc; uint flags; double volume_real; };
struct MqlDateTime { int year, mon, day, hour, min, sec, day_of_week, day_of_year; };

//: API constants
enum ENUM_TIMEFRAMES { PERIOD_CURRENT = 0, PERIOD_M1 = 1, PERIOD_M5 = 5, PERIOD_M15 = 15, PERIOD_M30 = 30, PERIOD_H1 = 16385,
                       PERIOD_H4 = 16388, PERIOD_D1 = 16408, PERIOD_W1 = 32769, PERIOD_MN1 = 49153 };
enum ENUM_MQL_INFO_INTEGER { MQL_TESTER = 6, MQL_TRADE_ALLOWED = 4 };
enum ENUM_TERMINAL_INFO_INTEGER { TERMINAL_CONNECTED = 6, TERMINAL_TRADE_ALLOWED = 8 };
enum ENUM_ACCOUNT_INFO_INTEGER { ACCOUNT_TRADE_ALLOWED, ACCOUNT_TRADE_EXPERT, ACCOUNT_MARGIN_MODE };
enum ENUM_ACCOUNT_MARGIN_MODE { ACCOUNT_MARGIN_MODE_RETAIL_NETTING, ACCOUNT_MARGIN_MODE_EXCHANGE, ACCOUNT_MARGIN_MODE_RETAIL_HEDGING };
enum ENUM_ACCOUNT_INFO_DOUBLE { ACCOUNT_BALANCE, ACCOUNT_EQUITY, ACCOUNT_MARGIN_FREE };
enum ENUM_SYMBOL_INFO_INTEGER { SYMBOL_SPREAD, SYMBOL_TRADE_STOPS_LEVEL, SYMBOL_TRADE_FREEZE_LEVEL, SYMBOL_DIGITS };
enum ENUM_SYMBOL_INFO_DOUBLE { SYMBOL_BID, SYMBOL_ASK, SYMBOL_POINT, SYMBOL_TRADE_TICK_SIZE, SYMBOL_TRADE_TICK_VALUE_LOSS, SYMBOL_TRADE_CONTRACT_SIZE,
                               SYMBOL_VOLUME_MIN, SYMBOL_VOLUME_MAX, SYMBOL_VOLUME_STEP };
enum ENUM_ORDER_TYPE { ORDER_TYPE_BUY, ORDER_TYPE_SELL };
enum ENUM_POSITION_TYPE { POSITION_TYPE_BUY, POSITION_TYPE_SELL };
enum ENUM_POSITION_PROPERTY_INTEGER { POSITION_TICKET, POSITION_TIME, POSITION_TYPE, POSITION_MAGIC };
enum ENUM_POSITION_PROPERTY_STRING { POSITION_SYMBOL, POSITION_COMMENT };
enum ENUM_OBJECT { OBJ_TREND = 2, OBJ_RECTANGLE = 16, OBJ_LABEL = 102 };
enum ENUM_OBJECT_PROPERTY_INTEGER { OBJPROP_COLOR, OBJPROP_BACK, OBJPROP_FILL };
enum ENUM_OBJECT_PROPERTY_STRING { OBJPROP_TEXT, OBJPROP_TOOLTIP };
enum ENUM_INIT_RETCODE { INIT_SUCCEEDED = 0, INIT_FAILED = 1, INIT_PARAMETERS_INCORRECT = 32767 };
const int INVALID_HANDLE = -1, WHOLE_ARRAY = -1, TIME_DATE = 1, TIME_MINUTES = 2, TIME_SECONDS = 4;
const uint CP_ACP = 0, CP_UTF8 = 65001;
const color clrGainsboro = 0xDCDCDC, clrSilver = 0xC0C0C0, clrDarkGray = 0xA9A9A9;
const uint TRADE_RETCODE_REQUOTE = 10004, TRADE_RETCODE_REJECT = 10006, TRADE_RETCODE_PLACED = 10008, TRADE_RETCODE_DONE = 10009,
           TRADE_RETCODE_DONE_PARTIAL = 10010, TRADE_RETCODE_TIMEOUT = 10012, TRADE_RETCODE_INVALID_VOLUME = 10014,
           TRADE_RETCODE_INVALID_STOPS = 10016, TRADE_RETCODE_MARKET_CLOSED = 10018, TRADE_RETCODE_NO_MONEY = 10019,
           TRADE_RETCODE_PRICE_CHANGED = 10020, TRADE_RETCODE_PRICE_OFF = 10021, TRADE_RETCODE_FROZEN = 10029,
           TRADE_RETCODE_INVALID_FILL = 10030, TRADE_RETCODE_POSITION_CLOSED = 10036;

//: API variables
extern string _Symbol;
extern ENUM_TIMEFRAMES _Period;
extern double _Point;
extern int _Digits;

//: API text
int StringLen(const string &text);
ushort StringGetCharacter(const string &text, int at);
string StringSubstr(const string &text, int from, int length = -1);
int StringFind(const string &text, const string &part, int from = 0);
int StringReplace(string &text, const string &part, const string &by);
int StringSplit(const string &text, ushort separator, Array<string> &parts);
int StringTrimLeft(string &text);
int StringTrimRight(string &text);
int StringToCharArray(const string &text, Array<uchar> &bytes, int start = 0, int count = -1, uint codepage = CP_ACP);
string CharArrayToString(const Array<uchar> &bytes, int start = 0, int count = -1, uint codepage = CP_ACP);
double StringToDouble(const string &text);
string DoubleToString(double value, int digits = 8);
string IntegerToString(long value);
string ShortToString(ushort code);
string TimeToString(datetime t, int mode = TIME_DATE | TIME_MINUTES);
string EnumToString(ENUM_TIMEFRAMES period);

//: API arrays
template <class T> int ArraySize(const Array<T> &a) { return (int)a.size(); }
template <class T> int ArrayResize(Array<T> &a, int n, int reserve = 0) { a.resize(n, reserve); return n; }
template <class T> int ArrayCopy(Array<T> &to, const Array<T> &from, int to_start = 0, int from_start = 0, int count = WHOLE_ARRAY) {
  int left = (int)from.size() - from_start, n = count == WHOLE_ARRAY || count > left ? left : count;
  if (n <= 0) return 0;
  if (to.size() < to_start + n) to.resize(to_start + n);
  for (int k = 0; k < n; k++) to[to_start + k] = from[from_start + k];
  return n;
}
template <class T> bool ArrayRemove(Array<T> &a, uint start, uint count) {
  if (start >= a.size()) return false;
  a.erase(start, count > a.size() - start ? a.size() - start : count);
  return true;
}

//: API numbers
template <class T, class U> auto MathMax(T a, U b) { return a > b ? a : b; }
template <class T, class U> auto MathMin(T a, U b) { return a < b ? a : b; }
inline double MathAbs(double x) { return std::fabs(x); }
inline double MathFloor(double x) { return std::floor(x); }
inline double MathRound(double x) { return std::round(x); }
double NormalizeDouble(double x, int digits);

//: API time
datetime TimeTradeServer();
datetime TimeGMT();
ulong GetTickCount64();
int TimeToStruct(datetime t, MqlDateTime &d);
datetime StructToTime(const MqlDateTime &d);
bool EventSetMillisecondTimer(int ms);
void EventKillTimer();
int PeriodSeconds(ENUM_TIMEFRAMES period = PERIOD_CURRENT);

//: API market
int CopyRates(const string &symbol, ENUM_TIMEFRAMES period, int start, int count, Array<MqlRates> &rates);
datetime iTime(const string &symbol, ENUM_TIMEFRAMES period, int shift);
int iBarShift(const string &symbol, ENUM_TIMEFRAMES period, datetime t, bool exact = false);
bool SymbolInfoTick(const string &symbol, MqlTick &tick);
long SymbolInfoInteger(const string &symbol, ENUM_SYMBOL_INFO_INTEGER what);
double SymbolInfoDouble(const string &symbol, ENUM_SYMBOL_INFO_DOUBLE what);

//: API terminal
long MQLInfoInteger(int what);
long TerminalInfoInteger(int what);
long AccountInfoInteger(ENUM_ACCOUNT_INFO_INTEGER what);
double AccountInfoDouble(ENUM_ACCOUNT_INFO_DOUBLE what);
int GetLastError();
void ResetLastError();
datetime GlobalVariableSet(const string &name, double value);
double GlobalVariableGet(const string &name);
bool GlobalVariableCheck(const string &name);

//: API chart
namespace sim {
void print(const std::string &text);
inline std::string shown(const string &s) { return s.utf8(); }
template <class T> std::string shown(T v) { return std::to_string(v); }
}
template <class... A> void Print(A... items) { sim::print((sim::shown(items) + ...)); }
void Comment(const string &text);
bool ObjectCreate(long chart, const string &name, ENUM_OBJECT type, int window, datetime t1, double p1, datetime t2 = 0, double p2 = 0);
bool ObjectDelete(long chart, const string &name);
int ObjectsDeleteAll(long chart, const string &prefix);
bool ObjectSetInteger(long chart, const string &name, ENUM_OBJECT_PROPERTY_INTEGER what, long value);
bool ObjectSetString(long chart, const string &name, ENUM_OBJECT_PROPERTY_STRING what, const string &value);
void ChartRedraw(long chart = 0);

//: API sockets
int SocketCreate(uint flags = 0);
void SocketClose(int socket);
bool SocketConnect(int socket, const string &server, uint port, uint timeout_ms);
bool SocketIsConnected(int socket);
uint SocketIsReadable(int socket);
bool SocketIsWritable(int socket);
bool SocketTimeouts(int socket, uint send_ms, uint receive_ms);
int SocketRead(int socket, Array<uchar> &buffer, uint maxlen, uint timeout_ms);
int SocketSend(int socket, const Array<uchar> &buffer, uint length);
bool SocketTlsHandshake(int socket, const string &host);
int SocketTlsRead(int socket, Array<uchar> &buffer, uint maxlen);
int SocketTlsReadAvailable(int socket, Array<uchar> &buffer, uint maxlen);
int SocketTlsSend(int socket, const Array<uchar> &buffer, uint length);

//: API trade
bool OrderCalcProfit(ENUM_ORDER_TYPE type, const string &symbol, double volume, double open, double close, double &profit);
bool OrderCalcMargin(ENUM_ORDER_TYPE type, const string &symbol, double volume, double price, double &margin);
int PositionsTotal();
ulong PositionGetTicket(int index);
bool PositionSelectByTicket(ulong ticket);
long PositionGetInteger(ENUM_POSITION_PROPERTY_INTEGER what);
string PositionGetString(ENUM_POSITION_PROPERTY_STRING what);

// Of Trade\Trade.mqh
class CTrade {
  ulong magic = 0, deviation = 10;
  bool filled_by_symbol = false;
  uint retcode = 0;
  bool deal(int side, double volume, const string &symbol, double sl, double tp);
public:
  //: API methods
  void SetExpertMagicNumber(ulong number) { magic = number; }
  void SetDeviationInPoints(ulong points) { deviation = points; }
  bool SetTypeFillingBySymbol(const string &symbol) { (void)symbol; filled_by_symbol = true; return true; }
  bool Buy(double volume, const string &symbol, double price = 0, double sl = 0, double tp = 0, const string &comment = string());
  bool Sell(double volume, const string &symbol, double price = 0, double sl = 0, double tp = 0, const string &comment = string());
  bool PositionClose(ulong ticket, ulong deviation_points = (ulong)-1);
  uint ResultRetcode() const { return retcode; }
  string ResultRetcodeDescription() const;
};
//: end

// What the EA may have, for the driver
int OnInit();
void OnDeinit(const int reason);
void OnTick();
void OnTimer();
namespace sim {
void set(string &input, const std::string &value);
template <class T> void set(T &input, const std::string &value) {
  if constexpr (std::is_enum_v<T>) input = (T)std::stol(value);
  else if constexpr (std::is_floating_point_v<T>) input = std::stod(value);
  else input = (T)std::stoll(value);
}
bool set_input(const std::string &name, const std::string &value);   // written by preprocess.py
}
