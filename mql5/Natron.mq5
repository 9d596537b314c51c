//+------------------------------------------------------------------+
//|                                                       Natron.mq5 |
//|  Sends closed candles to the Natron bridge, shows its answers,   |
//|  and trades them only if you switch that on.                     |
//+------------------------------------------------------------------+
#property copyright   "Natron contributors, Apache-2.0"
#property version     "1.00"
#property description "Client of the Natron bridge. Signals only, until you switch trading on."
#property description "Allow the bridge's address: Tools > Options > Expert Advisors > Allow WebRequest for listed URL."

#include <Trade\Trade.mqh>

enum SEND_VOLUME
  {
   SEND_TICK_VOLUME,  // tick volume
   SEND_REAL_VOLUME,  // real volume
   SEND_NO_VOLUME     // none: the market has no volume
  };

enum CLOCK_RULE
  {
   CLOCK_FIXED,       // never
   CLOCK_US,          // as New York's (most brokers at GMT+2/+3)
   CLOCK_EU           // as Europe's
  };

enum STOP_MODE
  {
   STOP_BY_ATR,       // multiples of ATR(14)
   STOP_BY_PLAN       // the bridge's plan: a stop with a stated chance of being hit; ATR where it knows none
  };

enum LINK_STATE { LINK_OFF, LINK_WAIT, LINK_HELLO, LINK_HISTORY, LINK_LIVE };
enum REQUEST    { ASK_NOTHING, ASK_HELLO, ASK_HISTORY, ASK_APPEND, ASK_PLAN };

input group "Bridge"
input string      Host             = "127.0.0.1"; // Address of the bridge
input int         Port             = 9000;        // Port of the bridge
input string      Token            = "";          // NATRON_TOKEN of the bridge; empty: none
input bool        UseTls           = false;       // Encrypt: the bridge has --tls-cert
input string      ModelSymbol      = "";          // Symbol's name in the model; empty: the chart's
input SEND_VOLUME VolumeKind       = SEND_TICK_VOLUME; // Volume that is sent
input CLOCK_RULE  BrokerClock      = CLOCK_US;    // Summer time of the broker's clock
input int         WinterOffset     = -1;          // Broker's winter clock ahead of UTC, seconds; -1: measured
input int         AnswerSeconds    = 10;          // An answer later than this: connect anew
input int         HeartbeatSeconds = 20;          // Silence before a ping
input group "Trading"
input bool        SignalsOnly      = true;        // Only show signals, send no order
input ulong       Magic            = 7041776;     // Magic number of the orders
input ulong       Deviation        = 10;          // Largest deviation from the price, points
input int         MaxDelaySeconds  = 60;          // No order later than this after the bar has closed
input string      OnlyModel        = "";          // Trade only this model (its SHA-256 begins so); empty: any
input bool        TradeOnWarnings  = false;       // Trade although the answer has warnings
input group "Conditions: all must hold"
input double      MinBuyProb       = 0.6;         // buy_prob for a long; 0: not asked
input double      MinSellProb      = 0.6;         // sell_prob for a short; 0: not asked
input double      MinDirection     = 0.1;         // P(UP) - P(DOWN) for a long, reversed for a short; 0: not asked
input string      LongRegimes      = "";          // Regimes for a long, comma-separated; empty: any
input string      ShortRegimes     = "";          // Regimes for a short, comma-separated; empty: any
input string      Volatilities     = "";          // Volatility classes, such as LOW,MEDIUM; empty: any
input double      MinConfidence    = 0;           // Confidence
input bool        UseRlAction      = false;       // rl_action must be LONG or SHORT too
input group "Exits and size"
input STOP_MODE   StopMode         = STOP_BY_ATR; // Where stop and target come from
input double      StopAtr          = 2;           // Stop loss, multiples of ATR(14)
input double      TargetAtr        = 3;           // Take profit, multiples of ATR(14); 0: none
input double      StopChance       = 0.15;        // Plan: chance that the stop is hit
input double      TargetChance     = 0.3;         // Plan: chance that the target is hit
input int         PlanHorizon      = 24;          // Plan: bars
input int         MaxBars          = 0;           // Longest holding, bars; 0: no limit
input double      RiskPercent      = 1;           // Equity lost at the stop, percent; 0: FixedLots
input double      FixedLots        = 0.01;        // Lots, where RiskPercent is 0
input group "Limits"
input int         MaxSpreadPoints  = 30;          // No entry at a wider spread; 0: no limit
input double      MaxDailyLoss     = 3;           // No entry after this loss of the day, percent; 0: no limit
input int         SessionStart     = 0;           // Entries from this hour of the broker's clock
input int         SessionEnd       = 24;          // Entries before this hour
input group "Chart"
input int         RangeHorizon     = 12;          // Bars of the drawn range: 1, 3, 6, 12 or 24; 0: none

#define PREFIX         "Natron."
#define TIMER_MS       100
#define READ_BYTES     4096        // of one read
#define READS_A_CALL   8
#define SEND_BYTES     16384       // of one call
#define MAX_LINE_BYTES 131072
#define MAX_VALUES     4096        // of one line
#define BUDGET_MS      20          // of one timer call
#define CONNECT_MS     500
#define CLOCK_ERROR    120         // seconds by which a clock may be wrong
#define CATCH_UP       16          // closed bars that are looked at; if all are new: send the history
#define MIN_WAIT_MS    1000        // before connecting again; doubles
#define MAX_WAIT_MS    60000
#define REFUSED_WAIT_MS 60000      // after a wrong token, or an address that is not allowed
#define ATR_BARS       14

//+------------------------------------------------------------------+
//| JSON: a text becomes a list of paths ("data.range.12.close.80.0")|
//| and values                                                       |
//+------------------------------------------------------------------+
enum JSON_KIND { JSON_MISSING, JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_TEXT, JSON_OBJECT, JSON_ARRAY };

class CJson
  {
private:
   string            m_text;
   int               m_at;
   string            m_paths[];
   string            m_values[];
   JSON_KIND         m_kinds[];
   ushort            Peek(void)     { return(m_at<StringLen(m_text) ? StringGetCharacter(m_text,m_at) : (ushort)0); }
   void              Blanks(void);
   bool              Take(const ushort c);
   bool              Word(const string word);
   bool              Value(const string path,const int depth);
   bool              Object(const string path,const int depth);
   bool              Items(const string path,const int depth);
   bool              Quoted(string &text);
   bool              Escape(string &text);
   bool              DigitRun(void);
   bool              Number(string &text);
   int               Find(const string path);
   int               Add(const string path,const JSON_KIND kind,const string value);
   string            Below(const string path,const string key) { return(path=="" ? key : path+"."+key); }
public:
   bool              Read(const string text);
   JSON_KIND         Kind(const string path)  { int k=Find(path); return(k<0 ? JSON_MISSING : m_kinds[k]); }
   string            Text(const string path)  { int k=Find(path); return(k<0 ? "" : m_values[k]); }
   double            Double(const string path,const double otherwise);
  };

bool CJson::Read(const string text)
  {
   m_text=text;
   m_at=0;
   ArrayResize(m_paths,0,128);
   ArrayResize(m_values,0,128);
   ArrayResize(m_kinds,0,128);
   if(!Value("",0))
      return(false);
   Blanks();
   return(m_at==StringLen(m_text));
  }

double CJson::Double(const string path,const double otherwise)
  {
   int k=Find(path);
   return(k>=0 && m_kinds[k]==JSON_NUMBER ? StringToDouble(m_values[k]) : otherwise);
  }

int CJson::Find(const string path)
  {
   for(int k=ArraySize(m_paths)-1; k>=0; k--)
      if(m_paths[k]==path)
         return(k);
   return(-1);
  }

int CJson::Add(const string path,const JSON_KIND kind,const string value)
  {
   int n=ArraySize(m_paths);
   if(n==MAX_VALUES)
      return(-1);
   ArrayResize(m_paths,n+1,128);
   ArrayResize(m_values,n+1,128);
   ArrayResize(m_kinds,n+1,128);
   m_paths[n]=path;
   m_values[n]=value;
   m_kinds[n]=kind;
   return(n);
  }

void CJson::Blanks(void)
  {
   while(Peek()==' ' || Peek()=='\t' || Peek()=='\r' || Peek()=='\n')
      m_at++;
  }

bool CJson::Take(const ushort c)
  {
   if(Peek()!=c)
      return(false);
   m_at++;
   return(true);
  }

bool CJson::Word(const string word)
  {
   if(StringSubstr(m_text,m_at,StringLen(word))!=word)
      return(false);
   m_at+=StringLen(word);
   return(true);
  }

bool CJson::Value(const string path,const int depth)
  {
   if(depth>16)
      return(false);
   Blanks();
   string text="";
   ushort c=Peek();
   if(c=='{')
      return(Object(path,depth));
   if(c=='[')
      return(Items(path,depth));
   if(c=='"')
      return(Quoted(text) && Add(path,JSON_TEXT,text)>=0);
   if(c=='t')
      return(Word("true") && Add(path,JSON_BOOL,"true")>=0);
   if(c=='f')
      return(Word("false") && Add(path,JSON_BOOL,"false")>=0);
   if(c=='n')
      return(Word("null") && Add(path,JSON_NULL,"")>=0);
   return(Number(text) && Add(path,JSON_NUMBER,text)>=0);
  }

bool CJson::Object(const string path,const int depth)
  {
   if(Add(path,JSON_OBJECT,"")<0)
      return(false);
   m_at++;
   Blanks();
   if(Take('}'))
      return(true);
   do
     {
      string key="";
      Blanks();
      if(!Quoted(key))
         return(false);
      Blanks();
      if(!Take(':') || !Value(Below(path,key),depth+1))
         return(false);
      Blanks();
     }
   while(Take(','));
   return(Take('}'));
  }

bool CJson::Items(const string path,const int depth)
  {
   int self=Add(path,JSON_ARRAY,"0"),n=0;
   if(self<0)
      return(false);
   m_at++;
   Blanks();
   if(Take(']'))
      return(true);
   do
     {
      if(!Value(Below(path,IntegerToString(n)),depth+1))
         return(false);
      n++;
      Blanks();
     }
   while(Take(','));
   m_values[self]=IntegerToString(n);
   return(Take(']'));
  }

bool CJson::Quoted(string &text)
  {
   if(!Take('"'))
      return(false);
   int from=m_at;
   while(Peek()!='"')
     {
      if(Peek()<32)                          // the text's end too
         return(false);
      if(Peek()!='\\')
        {
         m_at++;
         continue;
        }
      text+=StringSubstr(m_text,from,m_at-from);
      if(!Escape(text))
         return(false);
      from=m_at;
     }
   text+=StringSubstr(m_text,from,m_at-from);
   m_at++;
   return(true);
  }

bool CJson::Escape(string &text)
  {
   string plain="\"\\/bfnrt",means="\"\\/"+ShortToString(8)+ShortToString(12)+"\n\r\t";
   int k=StringFind(plain,ShortToString(StringGetCharacter(m_text,m_at+1)));
   m_at+=2;
   if(k>=0)
     {
      text+=StringSubstr(means,k,1);
      return(true);
     }
   if(m_at>StringLen(m_text) || StringGetCharacter(m_text,m_at-1)!='u' || m_at+4>StringLen(m_text))
      return(false);
   int code=0;
   for(int i=0; i<4; i++)
     {
      int digit=StringFind("0123456789abcdef0123456789ABCDEF",StringSubstr(m_text,m_at+i,1));
      if(digit<0)
         return(false);
      code=code*16+digit%16;
     }
   m_at+=4;
   text+=ShortToString((ushort)code);
   return(true);
  }

bool CJson::DigitRun(void)
  {
   int from=m_at;
   while(Peek()>='0' && Peek()<='9')
      m_at++;
   return(m_at>from);
  }

bool CJson::Number(string &text)
  {
   int from=m_at;
   Take('-');
   if(!DigitRun() || (Take('.') && !DigitRun()))
      return(false);
   if(Take('e') || Take('E'))
     {
      if(!Take('+'))
         Take('-');
      if(!DigitRun())
         return(false);
     }
   text=StringSubstr(m_text,from,m_at-from);
   return(true);
  }

string Quote(const string text)
  {
   string s=text;
   StringReplace(s,"\\","\\\\");
   StringReplace(s,"\"","\\\"");
   return("\""+s+"\"");
  }

//+------------------------------------------------------------------+
//| The connection: lines out, lines in, never waiting for the other |
//+------------------------------------------------------------------+
class CLink
  {
private:
   int               m_socket;
   bool              m_tls;
   uchar             m_out[];           // not sent yet
   uchar             m_in[];            // no line has been made of it yet
   int               m_from;            // bytes of m_in that were made lines
   int               m_scanned;         // bytes of m_in up to which all line ends are found
   int               ReadSome(uchar &piece[]);
public:
                     CLink(void) { m_socket=INVALID_HANDLE; m_tls=false; m_from=0; m_scanned=0; }
   bool              Open(const string host,const int port,const bool tls);
   void              Close(void);
   void              Say(const string line);
   bool              Flush(void);
   bool              Receive(void);
   bool              NextLine(string &line);
   bool              Overlong(void) { return(ArraySize(m_in)>MAX_LINE_BYTES); }
  };

bool CLink::Open(const string host,const int port,const bool tls)
  {
   Close();
   ResetLastError();
   m_tls=tls;
   m_socket=SocketCreate();
   if(m_socket==INVALID_HANDLE)
      return(false);
   if(!SocketConnect(m_socket,host,port,CONNECT_MS))
      return(false);
   SocketTimeouts(m_socket,BUDGET_MS,BUDGET_MS);
   return(!tls || SocketTlsHandshake(m_socket,host));
  }

void CLink::Close(void)
  {
   if(m_socket!=INVALID_HANDLE)
      SocketClose(m_socket);
   m_socket=INVALID_HANDLE;
   ArrayResize(m_out,0);
   ArrayResize(m_in,0);
   m_from=0;
   m_scanned=0;
  }

//--- StringToCharArray ends the bytes with a NUL, which is no part of a line
void CLink::Say(const string line)
  {
   uchar bytes[];
   int n=StringToCharArray(line+"\n",bytes,0,WHOLE_ARRAY,CP_UTF8)-1;
   ArrayCopy(m_out,bytes,ArraySize(m_out),0,n);
  }

//--- Sends a part of what waits; false: the connection is broken
bool CLink::Flush(void)
  {
   if(ArraySize(m_out)==0 || !SocketIsWritable(m_socket))
      return(true);
   uchar piece[];
   uint n=(uint)ArrayCopy(piece,m_out,0,0,SEND_BYTES);
   int sent=m_tls ? SocketTlsSend(m_socket,piece,n) : SocketSend(m_socket,piece,n);
   if(sent<0)
      return(false);
   if(sent>0)
      ArrayRemove(m_out,0,(uint)sent);
   return(true);
  }

//--- Reads what is there; false: the connection is broken
bool CLink::Receive(void)
  {
   ulong until=GetTickCount64()+BUDGET_MS;
   for(int k=0; k<READS_A_CALL && GetTickCount64()<until; k++)
     {
      uchar piece[];
      int got=ReadSome(piece);
      if(got<=0)
         return(got==0);
      ArrayCopy(m_in,piece,ArraySize(m_in),0,got);
     }
   return(true);
  }

//--- The terminal says that one byte is readable when it does not know; the read then ends by time-out, with the same
//--- error 5273 as a broken connection. SocketIsConnected tells these apart, and the heartbeat what it does not notice.
int CLink::ReadSome(uchar &piece[])
  {
   int got=0;
   if(m_tls)
      got=SocketTlsReadAvailable(m_socket,piece,READ_BYTES);
   else
     {
      uint ready=SocketIsReadable(m_socket);
      if(ready>READ_BYTES)
         ready=READ_BYTES;
      if(ready>0)
         got=SocketRead(m_socket,piece,ready,1);
     }
   if(got>0)
      return(got);
   return(SocketIsConnected(m_socket) ? 0 : -1);
  }

bool CLink::NextLine(string &line)
  {
   int n=ArraySize(m_in);
   while(m_scanned<n && m_in[m_scanned]!='\n')
      m_scanned++;
   if(m_scanned==n)
     {
      if(m_from>0)
         ArrayRemove(m_in,0,(uint)m_from);
      m_scanned-=m_from;
      m_from=0;
      return(false);
     }
   line=CharArrayToString(m_in,m_from,m_scanned-m_from,CP_UTF8);
   m_scanned++;
   m_from=m_scanned;
   return(true);
  }

//+------------------------------------------------------------------+
//| State                                                            |
//+------------------------------------------------------------------+
struct Answer
  {
   datetime          bar;               // broker's time of the bar it is about
   double            buy;
   double            sell;
   double            direction;         // P(UP) - P(DOWN)
   double            confidence;
   string            regime;
   string            volatility;
   string            rl_action;
   string            model;
   string            warnings;          // their codes
  };

CLink      g_link;
CTrade     g_trade;
LINK_STATE g_state=LINK_OFF;
REQUEST    g_asked=ASK_NOTHING;         // the request that waits for its answer
long       g_id=0;                      // of the last request
datetime   g_asked_bar=0;               // bar that was appended
ulong      g_deadline=0;                // for the answer, GetTickCount64
ulong      g_heard=0;                   // when the bridge last said something
ulong      g_pinged=0;                  // when it was last asked whether it lives; 0: it has answered
ulong      g_wake=0;                    // when to connect
uint       g_wait=MIN_WAIT_MS;          // before the next attempt
datetime   g_done=0;                    // last bar that was answered or missed
int        g_window=96;                 // candles that the model needs
int        g_context=512;               // candles that it can use
int        g_offset=0;                  // seconds of the broker's clock ahead of UTC, as the bridge was told
bool       g_clock_ok=true;
string     g_model="";                  // first digits of the SHA-256 of the model that spoke last
string     g_greeted="";                // and of the one that has said welcome
bool       g_model_is_new=false;        // it has not answered a bar yet
bool       g_plan_known=true;
int        g_plan_side=0;
Answer     g_answer;
datetime   g_bar=0;                     // opening time of the current bar
datetime   g_no_entry=0;                // bar in which nothing is entered any more
bool       g_held=false;                // a position was open when last looked at
int        g_answered=0,g_missed=0,g_strays=0,g_drops=0;
string     g_note="",g_panel="";

//+------------------------------------------------------------------+
//| Terminal events                                                  |
//+------------------------------------------------------------------+
int OnInit(void)
  {
   if(MQLInfoInteger(MQL_TESTER)!=0)
     {
      Note("sockets do not run in the strategy tester; use natron backtest. Nothing is done here");
      return(INIT_SUCCEEDED);
     }
   string wrong=WrongInput();
   if(wrong!="")
     {
      Print("Natron: ",wrong);
      return(INIT_PARAMETERS_INCORRECT);
     }
   g_trade.SetExpertMagicNumber(Magic);
   g_trade.SetDeviationInPoints(Deviation);
   g_trade.SetTypeFillingBySymbol(_Symbol);
   g_bar=iTime(_Symbol,_Period,0);
   g_state=LINK_WAIT;
   EventSetMillisecondTimer(TIMER_MS);
   return(INIT_SUCCEEDED);
  }

void OnDeinit(const int reason)
  {
   EventKillTimer();
   g_link.Close();
   ObjectsDeleteAll(0,PREFIX);
   Comment("");
   Print("Natron: ended (",reason,"); ",Tally());
  }

void OnTimer(void)
  {
   if(g_state==LINK_OFF)
      return;
   WatchBar();
   WatchPosition();
   WatchDay();
   if(g_state==LINK_WAIT && GetTickCount64()>=g_wake)
      Connect();
   if(g_state>LINK_WAIT)
      Talk();
   ShowPanel();
  }

//--- Everything is done by the timer; MetaTrader wants the function to be there
void OnTick(void)
  {
  }

string WrongInput(void)
  {
   if(Port<1 || Port>65535)
      return("Port: expected 1 to 65535, got "+IntegerToString(Port));
   if(WinterOffset!=-1 && (WinterOffset%900!=0 || WinterOffset<-50400 || WinterOffset>50400))
      return("WinterOffset: expected seconds, in quarters of an hour (7200 for GMT+2), got "
             +IntegerToString(WinterOffset));
   if(RiskPercent>0 && StopAtr<=0)
      return("RiskPercent is what is lost at the stop, and StopAtr: 0 has none");
   if(RiskPercent<0 || RiskPercent>=100 || FixedLots<=0)
      return("RiskPercent must be from 0 to 100, FixedLots above 0");
   if(AnswerSeconds<1 || HeartbeatSeconds<1)
      return("AnswerSeconds and HeartbeatSeconds must be 1 or more");
   if(TimeframeName()=="")
      return("the bridge takes M1 to W1, not months");
   return("");
  }

//+------------------------------------------------------------------+
//| Clock: every time is sent as UTC                                 |
//+------------------------------------------------------------------+
datetime NthSunday(const int year,const int month,const int nth)
  {
   MqlDateTime d;
   TimeToStruct(0,d);
   d.year=year;
   d.mon=month;
   d.day=1;
   datetime first=StructToTime(d);
   TimeToStruct(first,d);
   return(first+86400*((7-d.day_of_week)%7+7*(nth-1)));
  }

datetime LastSunday(const int year,const int month)
  {
   datetime fifth=NthSunday(year,month,5);
   MqlDateTime d;
   TimeToStruct(fifth,d);
   return(d.mon==month ? fifth : fifth-7*86400);
  }

//--- Whether the broker's clock is an hour ahead of its winter's, at a UTC time
bool IsSummer(const datetime utc)
  {
   MqlDateTime d;
   TimeToStruct(utc,d);
   if(BrokerClock==CLOCK_US)
      return(utc>=NthSunday(d.year,3,2)+7*3600 && utc<NthSunday(d.year,11,1)+6*3600);
   if(BrokerClock==CLOCK_EU)
      return(utc>=LastSunday(d.year,3)+3600 && utc<LastSunday(d.year,10)+3600);
   return(false);
  }

//--- Seconds of the broker's clock ahead of UTC now. The two clocks must agree with it, or nothing is ordered
int CurrentOffset(void)
  {
   int seconds=(int)(TimeTradeServer()-TimeGMT());
   int offset=(int)MathRound(seconds/900.0)*900;
   if(WinterOffset!=-1)
      offset=WinterOffset+(IsSummer(TimeGMT()) ? 3600 : 0);
   bool ok=MathAbs(seconds-offset)<=CLOCK_ERROR;
   if(g_clock_ok && !ok)
      Print("Natron: the broker's clock is ",seconds," s ahead of this computer's UTC, ",offset,
            " s are taken; check WinterOffset and this computer's clock. No orders until then");
   g_clock_ok=ok;
   return(offset);
  }

//--- The broker's time of a bar as UTC, with the clock of the bar's own season
datetime Utc(const datetime t)
  {
   int winter=g_offset-(IsSummer(TimeGMT()) ? 3600 : 0);
   return(t-winter-(IsSummer(t-winter) ? 3600 : 0));
  }

string Iso(const datetime utc)
  {
   string s=TimeToString(utc,TIME_DATE|TIME_SECONDS);
   StringReplace(s,".","-");
   StringReplace(s," ","T");
   return(s+"Z");
  }

//+------------------------------------------------------------------+
//| Conversation                                                     |
//+------------------------------------------------------------------+
void Note(const string text)
  {
   if(text==g_note)
      return;
   g_note=text;
   Print("Natron: ",text);
  }

void Connect(void)
  {
   if(!g_link.Open(Host,Port,UseTls))
     {
      int e=GetLastError();
      if(e==4014)
         Drop("MetaTrader does not allow the address "+Host+"; add it in Tools > Options > Expert Advisors",
              REFUSED_WAIT_MS);
      else
         Drop("no connection to "+Host+":"+IntegerToString(Port)+" (error "+IntegerToString(e)+")",0);
      return;
     }
   g_heard=GetTickCount64();
   g_pinged=0;
   Hello();
  }

//--- Hang up, and connect again after a while that doubles with every failure
void Drop(const string why,const uint wait)
  {
   g_link.Close();
   g_asked=ASK_NOTHING;
   g_state=LINK_WAIT;
   g_drops++;
   g_wake=GetTickCount64()+(wait>0 ? wait : g_wait);
   g_wait=g_wait*2<MAX_WAIT_MS ? g_wait*2 : MAX_WAIT_MS;
   Note(why);
  }

void Talk(void)
  {
   bool alive=g_link.Receive();
   ReadLines();
   if(g_state<=LINK_WAIT)
      return;
   if(!alive || !g_link.Flush())
      Drop("the bridge has hung up",0);
   else
      if(g_link.Overlong())
         Drop("a line has no end",0);
      else
         Watch();
   if(g_state==LINK_HISTORY && g_asked==ASK_NOTHING)
      SendHistory();
   if(g_state==LINK_LIVE && g_asked==ASK_NOTHING)
      SendNextBar();
   if(g_state>LINK_WAIT && !g_link.Flush())
      Drop("the bridge has hung up",0);
  }

void ReadLines(void)
  {
   string line;
   while(g_state>LINK_WAIT && g_link.NextLine(line))
     {
      g_heard=GetTickCount64();
      g_pinged=0;
      Heard(line);
     }
  }

//--- A bridge that says nothing is taken for dead
void Watch(void)
  {
   ulong now=GetTickCount64();
   if(g_asked!=ASK_NOTHING && now>g_deadline)
     {
      Drop("no answer within "+IntegerToString(AnswerSeconds)+" s",0);
      return;
     }
   if(g_pinged!=0 && now>g_pinged+1000*(ulong)AnswerSeconds)
     {
      Drop("no sign of life within "+IntegerToString(AnswerSeconds)+" s",0);
      return;
     }
   if(g_pinged==0 && now>g_heard+1000*(ulong)HeartbeatSeconds)
     {
      g_link.Say("{\"type\":\"ping\"}");
      g_pinged=now;
     }
  }

void Ask(const REQUEST what,const string type,const string fields)
  {
   g_id++;
   g_asked=what;
   g_deadline=GetTickCount64()+1000*(ulong)AnswerSeconds;
   g_link.Say("{\"type\":\""+type+"\",\"id\":"+IntegerToString(g_id)+fields+"}");
  }

string MarketName(void)
  {
   return(ModelSymbol=="" ? _Symbol : ModelSymbol);
  }

string TimeframeName(void)
  {
   string name=StringSubstr(EnumToString((ENUM_TIMEFRAMES)_Period),7);   // without PERIOD_
   return(name=="MN1" ? "" : name);
  }

void Hello(void)
  {
   g_offset=CurrentOffset();
   string fields=",\"symbol\":"+Quote(MarketName())+",\"timeframe\":\""+TimeframeName()+"\"";
   fields+=",\"gmt_offset\":"+IntegerToString(g_offset);
   fields+=",\"broker_time\":"+IntegerToString(TimeTradeServer())+",\"gmt_time\":"+IntegerToString(TimeGMT());
   if(VolumeKind==SEND_NO_VOLUME)
      fields+=",\"no_volume\":true";
   if(Token!="")
      fields+=",\"token\":"+Quote(Token);
   g_state=LINK_HELLO;
   Ask(ASK_HELLO,"hello",fields);
  }

string Candle(const MqlRates &r)
  {
   string s="{\"time\":\""+Iso(Utc(r.time))+"\"";
   s+=",\"open\":"+DoubleToString(r.open,8)+",\"high\":"+DoubleToString(r.high,8);
   s+=",\"low\":"+DoubleToString(r.low,8)+",\"close\":"+DoubleToString(r.close,8);
   if(VolumeKind==SEND_TICK_VOLUME)
      s+=",\"volume\":"+IntegerToString(r.tick_volume);
   if(VolumeKind==SEND_REAL_VOLUME)
      s+=",\"volume\":"+IntegerToString(r.real_volume);
   return(s+"}");
  }

//--- Closed candles, oldest first; the newest is left to `append` unless it has been answered
void SendHistory(void)
  {
   MqlRates rates[];
   int n=CopyRates(_Symbol,_Period,1,g_context+1,rates);
   if(n<=g_window)
     {
      Note("MetaTrader has "+IntegerToString(n)+" candles of "+_Symbol+", the model needs more; scroll the chart back");
      return;
     }
   int last=rates[n-1].time>g_done ? n-2 : n-1;
   if(g_done!=0)
      for(int k=0; k<=last; k++)
         if(rates[k].time>g_done)
            g_missed++;
   g_done=rates[last].time;
   string candles="";
   for(int k=last-g_context+1>0 ? last-g_context+1 : 0; k<=last; k++)
      candles+=(candles=="" ? "" : ",")+Candle(rates[k]);
   Ask(ASK_HISTORY,"history",",\"candles\":["+candles+"]");
  }

//--- The oldest closed candle that was not asked yet
void SendNextBar(void)
  {
   if(iTime(_Symbol,_Period,1)<=g_done)
      return;
   MqlRates rates[];
   int n=CopyRates(_Symbol,_Period,1,CATCH_UP,rates);
   if(n<1)
      return;
   if(CurrentOffset()!=g_offset)
     {
      Note("the broker's clock has changed");
      Hello();
      return;
     }
   if(rates[0].time>g_done)
     {
      g_state=LINK_HISTORY;
      SendHistory();
      return;
     }
   int k=0;
   while(k<n-1 && rates[k].time<=g_done)
      k++;
   g_asked_bar=rates[k].time;
   Ask(ASK_APPEND,"append",",\"candle\":"+Candle(rates[k]));
  }

//+------------------------------------------------------------------+
//| What the bridge says                                             |
//+------------------------------------------------------------------+
void Heard(const string line)
  {
   CJson m;
   if(!m.Read(line) || m.Kind("type")!=JSON_TEXT)
     {
      Drop("this is no answer of a bridge: "+StringSubstr(line,0,60),0);
      return;
     }
   string type=m.Text("type");
   if(type=="ping")
     {
      g_link.Say("{\"type\":\"pong\"}");
      return;
     }
   if(type=="pong")
      return;
   if(type=="error" && m.Kind("id")!=JSON_NUMBER)
     {
      Refused(m);
      return;
     }
   if(g_asked==ASK_NOTHING || m.Text("id")!=IntegerToString(g_id))
     {
      g_strays++;                               // an answer to an earlier request, or to one that was answered
      return;
     }
   REQUEST asked=g_asked;
   g_asked=ASK_NOTHING;
   if(type=="error")
      Failed(asked,m);
   else
      Answered(asked,type,m);
  }

void Answered(const REQUEST asked,const string type,CJson &m)
  {
   if(asked==ASK_HELLO && type=="welcome")
      Welcomed(m);
   else
      if(asked==ASK_HISTORY && type=="history")
         g_state=LINK_LIVE;
      else
         if(asked==ASK_APPEND && type=="prediction")
            Predicted(m);
         else
            if(asked==ASK_PLAN && type=="plan")
               Planned(m);
            else
               Drop("an answer of an unexpected type: "+type,0);
  }

void Welcomed(CJson &m)
  {
   g_window=(int)m.Double("data.window",96);
   g_context=(int)m.Double("data.context",512);
   g_greeted=StringSubstr(m.Text("data.model"),0,12);
   g_state=LINK_HISTORY;
   Note("connected to "+m.Text("data.name")+" "+g_greeted+", broker's clock UTC"+(g_offset<0 ? "-" : "+")
        +DoubleToString(MathAbs(g_offset)/3600.0,2));
   Meet(g_greeted);
  }

//--- Another model than before, by its answer or by the welcome of another bridge: what it says first is not traded
void Meet(const string model)
  {
   if(g_model!="" && model!=g_model)
     {
      Note("the model was replaced: "+g_model+" by "+model+"; its first answer is not traded");
      g_model_is_new=true;
      g_plan_known=true;
     }
   g_model=model;
  }

//--- The connection is refused as a whole, or a line of ours was none
void Refused(CJson &m)
  {
   string code=m.Text("code");
   uint wait=code=="unauthorized" || code=="not_http" ? REFUSED_WAIT_MS : 0;
   Drop("the bridge says "+code+": "+m.Text("message"),wait);
  }

//--- One request is refused
void Failed(const REQUEST asked,CJson &m)
  {
   string code=m.Text("code");
   if(asked==ASK_PLAN)
     {
      PlanFailed(code,m.Text("message"));
      return;
     }
   if(code=="unauthorized" || asked==ASK_HELLO)
     {
      Drop("the bridge says "+code+": "+m.Text("message"),REFUSED_WAIT_MS);
      return;
     }
   if((code=="internal" || code=="stale_model" || code=="drifted") && asked==ASK_APPEND)
     {
      g_missed++;
      g_done=g_asked_bar;
      Note(code=="internal" ? "the model failed; the bridge's log says why" : m.Text("message"));
      return;
     }
   Drop("the bridge says "+code+": "+m.Text("message"),(uint)(1000*m.Double("retry",0)));
  }

void Predicted(CJson &m)
  {
   g_done=g_asked_bar;
   g_answered++;
   g_wait=MIN_WAIT_MS;
   if(m.Kind("data")!=JSON_OBJECT)
     {
      Note("the bridge has no window of candles yet");
      return;
     }
   if(StringFind(m.Text("data.timestamp"),StringSubstr(Iso(Utc(g_asked_bar)),0,19))!=0)
     {
      Note("the answer is of "+m.Text("data.timestamp")+", not of "+Iso(Utc(g_asked_bar))+"; no order");
      return;
     }
   Remember(m);
   DrawRange(m);
   Print("Natron: ",Sentence());
   Decide();
   g_model_is_new=false;
   if(g_model!=g_greeted)
      Hello();                                  // the new model's window and context
  }

void Remember(CJson &m)
  {
   g_answer.bar=g_asked_bar;
   g_answer.buy=m.Double("data.buy_prob",0);
   g_answer.sell=m.Double("data.sell_prob",0);
   g_answer.direction=m.Double("data.direction_probs.UP",0)-m.Double("data.direction_probs.DOWN",0);
   g_answer.confidence=m.Double("data.confidence",0);
   g_answer.regime=m.Text("data.regime");
   g_answer.volatility=m.Text("data.volatility");
   g_answer.rl_action=m.Text("data.rl_action");
   g_answer.model=m.Text("data.model.sha256");
   g_answer.warnings="";
   for(int k=0; m.Kind("data.warnings."+IntegerToString(k))==JSON_OBJECT; k++)
      g_answer.warnings+=(k>0 ? "," : "")+m.Text("data.warnings."+IntegerToString(k)+".code");
   Meet(g_answer.model);
  }

//+------------------------------------------------------------------+
//| Decisions                                                        |
//+------------------------------------------------------------------+
bool Listed(const string list,const string name)
  {
   if(list=="")
      return(true);
   string names[];
   int n=StringSplit(list,',',names);
   for(int k=0; k<n; k++)
     {
      StringTrimLeft(names[k]);
      StringTrimRight(names[k]);
      if(names[k]==name)
         return(true);
     }
   return(false);
  }

bool Asks(const int side)
  {
   double prob=side>0 ? g_answer.buy : g_answer.sell;
   if(prob<(side>0 ? MinBuyProb : MinSellProb))
      return(false);
   if(MinDirection>0 && side*g_answer.direction<MinDirection)
      return(false);
   if(g_answer.confidence<MinConfidence)
      return(false);
   if(UseRlAction && g_answer.rl_action!=(side>0 ? "LONG" : "SHORT"))
      return(false);
   return(Listed(side>0 ? LongRegimes : ShortRegimes,g_answer.regime) && Listed(Volatilities,g_answer.volatility));
  }

//--- +1: long, -1: short, 0: neither, or both at once
int WantedSide(void)
  {
   return((Asks(1) ? 1 : 0)-(Asks(-1) ? 1 : 0));
  }

//--- Why an answer is not traded at all; empty: it may be
string WhyIdle(void)
  {
   if(SignalsOnly)
      return("signals only");
   if(g_answer.bar!=iTime(_Symbol,_Period,1) || TimeTradeServer()-iTime(_Symbol,_Period,0)>MaxDelaySeconds)
      return("the answer came too late");
   if(g_model_is_new)
      return("the model was replaced");
   if(OnlyModel!="" && StringFind(OnlyModel,g_answer.model)!=0 && StringFind(g_answer.model,OnlyModel)!=0)
      return("this is not the model of OnlyModel");
   if(g_answer.warnings!="" && !TradeOnWarnings)
      return("the answer has warnings: "+g_answer.warnings);
   if(!g_clock_ok)
      return("the clocks differ");
   if(TerminalInfoInteger(TERMINAL_TRADE_ALLOWED)==0 || MQLInfoInteger(MQL_TRADE_ALLOWED)==0
      || AccountInfoInteger(ACCOUNT_TRADE_ALLOWED)==0 || AccountInfoInteger(ACCOUNT_TRADE_EXPERT)==0)
      return("algorithmic trading is not allowed");
   return("");
  }

//--- Why nothing is entered; empty: it may be
string WhyNoEntry(void)
  {
   if(g_no_entry==g_bar)
      return("a position has ended in this bar");
   if(GlobalVariableGet(Key("entry"))==(double)g_bar)
      return("this bar had its order");
   if(MaxSpreadPoints>0 && SymbolInfoInteger(_Symbol,SYMBOL_SPREAD)>MaxSpreadPoints)
      return("the spread is too wide");
   if(!InSession())
      return("outside of the session");
   double start=GlobalVariableGet(Key("equity"));
   if(MaxDailyLoss>0 && AccountInfoDouble(ACCOUNT_EQUITY)<start*(1-MaxDailyLoss/100))
      return("the day's loss limit is reached");
   return("");
  }

bool InSession(void)
  {
   MqlDateTime d;
   TimeToStruct(TimeTradeServer(),d);
   if(SessionStart<=SessionEnd)
      return(d.hour>=SessionStart && d.hour<SessionEnd);
   return(d.hour>=SessionStart || d.hour<SessionEnd);
  }

//--- Of a variable that outlives the EA
string Key(const string name)
  {
   return(PREFIX+IntegerToString((long)Magic)+"."+_Symbol+"."+name);
  }

void Decide(void)
  {
   int side=WantedSide();
   if(side==0)
      return;
   string why=WhyIdle();
   if(why=="" && CloseOther(side) && !Holding())
     {
      why=WhyNoEntry();
      if(why=="")
         Enter(side);
     }
   if(why!="")
      Note((side>0 ? "long" : "short")+" is asked, no order: "+why);
  }

//--- Own positions in this symbol, on netting and hedging accounts alike
bool OwnPosition(const int k)
  {
   return(PositionGetTicket(k)>0 && PositionGetString(POSITION_SYMBOL)==_Symbol
          && PositionGetInteger(POSITION_MAGIC)==(long)Magic);
  }

//--- Whether a position is in the way. A netting account has one a symbol, whoever opened it
bool Holding(void)
  {
   bool netting=AccountInfoInteger(ACCOUNT_MARGIN_MODE)!=ACCOUNT_MARGIN_MODE_RETAIL_HEDGING;
   for(int k=PositionsTotal()-1; k>=0; k--)
      if(OwnPosition(k) || (netting && PositionGetString(POSITION_SYMBOL)==_Symbol))
         return(true);
   return(false);
  }

//--- Close what is held on the other side; false: something could not be closed
bool CloseOther(const int side)
  {
   for(int k=PositionsTotal()-1; k>=0; k--)
     {
      if(!OwnPosition(k))
         continue;
      int held=PositionGetInteger(POSITION_TYPE)==POSITION_TYPE_BUY ? 1 : -1;
      if(held!=side && !ClosePosition(PositionGetInteger(POSITION_TICKET)))
         return(false);
     }
   return(true);
  }

bool Succeeded(const uint code)
  {
   return(code==TRADE_RETCODE_PLACED || code==TRADE_RETCODE_DONE || code==TRADE_RETCODE_DONE_PARTIAL);
  }

bool Requoted(const uint code)
  {
   return(code==TRADE_RETCODE_REQUOTE || code==TRADE_RETCODE_PRICE_CHANGED || code==TRADE_RETCODE_PRICE_OFF);
  }

bool ClosePosition(const long ticket)
  {
   for(int attempt=0; attempt<2; attempt++)
     {
      g_trade.PositionClose((ulong)ticket,Deviation);
      uint code=g_trade.ResultRetcode();
      if(Succeeded(code))
        {
         g_held=false;
         return(!PositionSelectByTicket((ulong)ticket));
        }
      if(!Requoted(code))
         break;
     }
   Note("position "+IntegerToString(ticket)+" is not closed: "+RetcodeText(g_trade.ResultRetcode()));
   return(false);
  }

string RetcodeText(const uint code)
  {
   string text=IntegerToString(code)+" "+g_trade.ResultRetcodeDescription();
   if(code==TRADE_RETCODE_MARKET_CLOSED)
      return(text+"; the market is closed");
   if(code==TRADE_RETCODE_NO_MONEY)
      return(text+"; the free margin is too small");
   if(code==TRADE_RETCODE_INVALID_STOPS)
      return(text+"; the broker takes no stops so near");
   return(text);
  }

//+------------------------------------------------------------------+
//| Entries                                                          |
//+------------------------------------------------------------------+
void Enter(const int side)
  {
   if(StopMode==STOP_BY_PLAN && g_plan_known)
      AskPlan(side);
   else
     {
      double atr=Atr();
      if(atr>0)
         EnterWith(side,StopAtr*atr,TargetAtr*atr,0);
     }
  }

//--- Wilder's ATR of the closed bars, as Natron's backtest has it (MetaTrader's iATR is a plain mean)
double Atr(void)
  {
   MqlRates r[];
   int n=CopyRates(_Symbol,_Period,1,512,r);
   if(n<=ATR_BARS)
      return(0);
   double atr=0;
   for(int k=1; k<n; k++)
     {
      double range=MathMax(r[k].high,r[k-1].close)-MathMin(r[k].low,r[k-1].close);
      atr=k<=ATR_BARS ? atr+range/ATR_BARS : (atr*(ATR_BARS-1)+range)/ATR_BARS;
     }
   return(atr);
  }

double RoundPrice(const double price)
  {
   double tick=SymbolInfoDouble(_Symbol,SYMBOL_TRADE_TICK_SIZE);
   return(NormalizeDouble(tick>0 ? MathRound(price/tick)*tick : price,_Digits));
  }

//--- Distances count from the price at which the position could be closed now: a long's bid, a short's ask
void EnterWith(const int side,const double stop,const double target,const double units)
  {
   MqlTick tick;
   if(!SymbolInfoTick(_Symbol,tick))
      return;
   double nearest=SymbolInfoInteger(_Symbol,SYMBOL_TRADE_STOPS_LEVEL)*_Point;
   double from=side>0 ? tick.bid : tick.ask;
   double far=stop>0 ? MathMax(stop,nearest) : 0;
   double sl=stop>0 ? RoundPrice(from-side*far) : 0;
   double tp=target>0 ? RoundPrice(from+side*MathMax(target,nearest)) : 0;
   double lots=Lots(side,from,sl,units);
   if(lots>0)
      Send(side,lots,sl,tp,far);
  }

//--- Lots that lose RiskPercent at the stop, within what the symbol and the free margin allow; 0: none
double Lots(const int side,const double from,const double sl,const double units)
  {
   ENUM_ORDER_TYPE type=side>0 ? ORDER_TYPE_BUY : ORDER_TYPE_SELL;
   double lots=FixedLots,loss=0,margin=0;
   if(RiskPercent>0)
     {
      bool known=OrderCalcProfit(type,_Symbol,1,from,sl,loss) && loss<0;
      lots=known ? AccountInfoDouble(ACCOUNT_EQUITY)*RiskPercent/100/-loss : 0;
     }
   double contract=SymbolInfoDouble(_Symbol,SYMBOL_TRADE_CONTRACT_SIZE);
   if(units>0 && contract>0)
      lots=MathMin(lots,units/contract);
   double free=AccountInfoDouble(ACCOUNT_MARGIN_FREE);
   if(OrderCalcMargin(type,_Symbol,lots,from,margin) && margin>free)
      lots*=free/margin;
   lots=MathMin(lots,SymbolInfoDouble(_Symbol,SYMBOL_VOLUME_MAX));
   double step=SymbolInfoDouble(_Symbol,SYMBOL_VOLUME_STEP);
   lots=NormalizeDouble(MathFloor(lots/step+1e-9)*step,8);
   if(lots>=SymbolInfoDouble(_Symbol,SYMBOL_VOLUME_MIN))
      return(lots);
   Note("no order: the risk is too small for the smallest lot, or the free margin is used up");
   return(0);
  }

//--- One order a bar, whatever becomes of it: it is noted first, so that nothing sends it twice
void Send(const int side,const double lots,const double sl,const double tp,const double far)
  {
   GlobalVariableSet(Key("entry"),(double)g_bar);
   double stop=sl,target=tp;
   for(int attempt=0; attempt<2; attempt++)
     {
      if(side>0)
         g_trade.Buy(lots,_Symbol,0,stop,target,"Natron");
      else
         g_trade.Sell(lots,_Symbol,0,stop,target,"Natron");
      uint code=g_trade.ResultRetcode();
      if(Succeeded(code))
        {
         Note((side>0 ? "long " : "short ")+DoubleToString(lots,2)+" lots, stop "+DoubleToString(stop,_Digits)
              +", target "+DoubleToString(target,_Digits));
         return;
        }
      if(!Requoted(code))
         break;
      MqlTick tick;
      if(!SymbolInfoTick(_Symbol,tick) || far<=0)
         continue;
      double moved=(side>0 ? tick.bid : tick.ask)-side*far-stop;
      stop=RoundPrice(stop+moved);
      target=target>0 ? RoundPrice(target+moved) : 0;
     }
   Note("no order: "+RetcodeText(g_trade.ResultRetcode()));
  }

//+------------------------------------------------------------------+
//| The bridge's plan: stop, target and size by chance               |
//+------------------------------------------------------------------+
void AskPlan(const int side)
  {
   g_plan_side=side;
   string fields=",\"symbol\":"+Quote(MarketName())+",\"side\":\""+(side>0 ? "long" : "short")+"\"";
   fields+=",\"stop_chance\":"+DoubleToString(StopChance,4)+",\"target_chance\":"+DoubleToString(TargetChance,4);
   fields+=",\"horizon\":"+IntegerToString(PlanHorizon);
   if(RiskPercent>0)
     {
      double rate=QuoteRate();
      if(rate<=0)
        {
         Note("no order: the broker does not say what a tick is worth in the account's currency");
         return;
        }
      fields+=",\"equity\":"+DoubleToString(AccountInfoDouble(ACCOUNT_EQUITY)/rate,2);
      fields+=",\"risk\":"+DoubleToString(RiskPercent/100,6);
     }
   Ask(ASK_PLAN,"plan",fields);
  }

//--- The account's money for one unit of the quotes' currency, from what a tick is worth; 0: the broker does not say
double QuoteRate(void)
  {
   double value=SymbolInfoDouble(_Symbol,SYMBOL_TRADE_TICK_VALUE_LOSS);
   double units=SymbolInfoDouble(_Symbol,SYMBOL_TRADE_TICK_SIZE)*SymbolInfoDouble(_Symbol,SYMBOL_TRADE_CONTRACT_SIZE);
   return(value>0 && units>0 ? value/units : 0);
  }

//--- Whether a plan is of the bar and the model whose answer is traded
bool OfTheAnswer(CJson &m)
  {
   return(m.Text("data.model.sha256")==g_answer.model
          && StringFind(m.Text("data.timestamp"),StringSubstr(Iso(Utc(g_answer.bar)),0,19))==0);
  }

//--- Stop and target are prices of the chart, size is units
void Planned(CJson &m)
  {
   MqlTick tick;
   string why=OfTheAnswer(m) ? WhyIdle() : "the plan is of another bar or model";
   if(why=="")
      why=Holding() ? "a position is open" : WhyNoEntry();
   double stop=m.Double("data.stop",0),target=m.Double("data.target",0);
   if(why=="" && SymbolInfoTick(_Symbol,tick))
     {
      double down=g_plan_side*(tick.bid-stop),up=g_plan_side*(target-tick.bid);
      if(stop>0 && down>0 && target>0 && up>0)
         EnterWith(g_plan_side,down,up,m.Double("data.size",0));
      else
         why="the plan's stop or target is on the wrong side";
     }
   if(why!="")
      Note("no order: "+why);
  }

void PlanFailed(const string code,const string message)
  {
   if(code!="bad_type")
     {
      Note("no order: the bridge refuses the plan: "+message);
      return;
     }
   g_plan_known=false;
   Note("this bridge knows no plan; stop and target are multiples of ATR");
   if(WhyIdle()=="" && WhyNoEntry()=="" && !Holding())
      Enter(g_plan_side);
  }

//+------------------------------------------------------------------+
//| Bars and days                                                    |
//+------------------------------------------------------------------+
//--- The longest holding does not need the bridge
void WatchBar(void)
  {
   datetime now=iTime(_Symbol,_Period,0);
   if(now==g_bar)
      return;
   g_bar=now;
   if(MaxBars<1 || SignalsOnly)
      return;
   for(int k=PositionsTotal()-1; k>=0; k--)
      if(OwnPosition(k) && iBarShift(_Symbol,_Period,(datetime)PositionGetInteger(POSITION_TIME))>=MaxBars
         && ClosePosition(PositionGetInteger(POSITION_TICKET)))
         g_no_entry=g_bar;
  }

//--- A stop or target that was hit, or a hand: nothing is entered any more in this bar, as in Natron's backtest
void WatchPosition(void)
  {
   bool held=false;
   for(int k=PositionsTotal()-1; k>=0; k--)
      if(OwnPosition(k))
         held=true;
   if(g_held && !held)
      g_no_entry=g_bar;
   g_held=held;
  }

void WatchDay(void)
  {
   double day=(double)(TimeTradeServer()/86400);
   if(GlobalVariableCheck(Key("day")) && GlobalVariableGet(Key("day"))==day)
      return;
   GlobalVariableSet(Key("day"),day);
   GlobalVariableSet(Key("equity"),AccountInfoDouble(ACCOUNT_EQUITY));
  }

//+------------------------------------------------------------------+
//| Chart                                                            |
//+------------------------------------------------------------------+
string Percent(const double x)
  {
   return(DoubleToString(100*x,1)+" %");
  }

string Sentence(void)
  {
   string s=Iso(Utc(g_answer.bar))+" buy "+Percent(g_answer.buy)+", sell "+Percent(g_answer.sell)
            +", direction "+Percent(g_answer.direction)+", "+g_answer.regime+", volatility "+g_answer.volatility
            +", confidence "+Percent(g_answer.confidence);
   if(g_answer.rl_action!="")
      s+=", policy "+g_answer.rl_action;
   return(g_answer.warnings=="" ? s : s+", WARNINGS "+g_answer.warnings);
  }

string Tally(void)
  {
   int waiting=g_done==0 ? 0 : iBarShift(_Symbol,_Period,g_done)-1;
   return(IntegerToString(g_answered)+" bars answered, "+IntegerToString(g_missed)+" missed, "+IntegerToString(waiting)
          +" waiting, "+IntegerToString(g_strays)+" stray answers, "+IntegerToString(g_drops)+" connections lost");
  }

string StateName(void)
  {
   if(g_state==LINK_WAIT)
      return("not connected");
   return(g_state==LINK_LIVE ? "live" : "connecting");
  }

void ShowPanel(void)
  {
   string s="Natron "+StateName()+(SignalsOnly ? ", signals only\n" : ", TRADING\n");
   if(g_answered>0)
      s+=Sentence()+"\n";
   s+=Tally()+"\n"+g_note;
   if(s==g_panel)
      return;
   g_panel=s;
   Comment(s);
  }

void DrawRange(CJson &m)
  {
   string at="data.range."+IntegerToString(RangeHorizon)+".close.";
   string bands[]={"95","80","50"};
   color  shades[]={clrGainsboro,clrSilver,clrDarkGray};
   for(int k=0; k<ArraySize(bands); k++)
     {
      string name=PREFIX+"range."+bands[k];
      double low=m.Double(at+bands[k]+".0",0),high=m.Double(at+bands[k]+".1",0);
      ObjectDelete(0,name);
      if(low<=0 || high<=low)
         continue;
      datetime from=g_asked_bar+PeriodSeconds(_Period);
      ObjectCreate(0,name,OBJ_RECTANGLE,0,from,low,from+RangeHorizon*PeriodSeconds(_Period),high);
      ObjectSetInteger(0,name,OBJPROP_COLOR,shades[k]);
      ObjectSetInteger(0,name,OBJPROP_BACK,true);
      ObjectSetInteger(0,name,OBJPROP_FILL,true);
      ObjectSetString(0,name,OBJPROP_TOOLTIP,bands[k]+" % of closes");
     }
   ChartRedraw(0);
  }
//+------------------------------------------------------------------+
