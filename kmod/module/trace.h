/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM mlproxy

#if !defined(_MLPROXY_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _MLPROXY_TRACE_H

#include <linux/tracepoint.h>
#include "../uapi/mlproxy.h"

#define MLP_SHOW_MODE(mode)			\
	__print_symbolic(mode,			\
		{ 0, "emergency" },		\
		{ 1, "learning" },		\
		{ 2, "collaboration" },		\
		{ 3, "trusted" })

TRACE_EVENT(mlproxy_mode,
	TP_PROTO(const char *proxy, u32 from, u32 to, u32 reason, u64 now),
	TP_ARGS(proxy, from, to, reason, now),
	TP_STRUCT__entry(
		__array(char, proxy, MLP_NAME_LEN)
		__field(u32, from)
		__field(u32, to)
		__field(u32, reason)
		__field(u64, now)
	),
	TP_fast_assign(
		strscpy_pad(__entry->proxy, proxy, MLP_NAME_LEN);
		__entry->from = from;
		__entry->to = to;
		__entry->reason = reason;
		__entry->now = now;
	),
	TP_printk("proxy=%s from=%s to=%s reason=%u now=%llu", __entry->proxy,
		  MLP_SHOW_MODE(__entry->from), MLP_SHOW_MODE(__entry->to),
		  __entry->reason, __entry->now)
);

TRACE_EVENT(mlproxy_decision,
	TP_PROTO(const char *proxy, u32 stream, u64 unit, s32 default_action,
		 const struct mlp_decision *decision),
	TP_ARGS(proxy, stream, unit, default_action, decision),
	TP_STRUCT__entry(
		__array(char, proxy, MLP_NAME_LEN)
		__field(u32, stream)
		__field(u64, unit)
		__field(s32, default_action)
		__field(s32, arm)
		__field(s32, action)
		__field(u32, version)
	),
	TP_fast_assign(
		strscpy_pad(__entry->proxy, proxy, MLP_NAME_LEN);
		__entry->stream = stream;
		__entry->unit = unit;
		__entry->default_action = default_action;
		__entry->arm = decision->arm;
		__entry->action = decision->action;
		__entry->version = decision->model_version;
	),
	TP_printk("proxy=%s stream=%u unit=%llu arm=%s action=%d default=%d version=%u",
		  __entry->proxy, __entry->stream, __entry->unit,
		  __print_symbolic(__entry->arm, { 0, "default" }, { 1, "model" }),
		  __entry->action, __entry->default_action, __entry->version)
);

/* Of a ranking: how many ids the model gave; 0: the default acts. */
TRACE_EVENT(mlproxy_rank,
	TP_PROTO(const char *proxy, u64 unit, u32 nr, u32 version),
	TP_ARGS(proxy, unit, nr, version),
	TP_STRUCT__entry(
		__array(char, proxy, MLP_NAME_LEN)
		__field(u64, unit)
		__field(u32, nr)
		__field(u32, version)
	),
	TP_fast_assign(
		strscpy_pad(__entry->proxy, proxy, MLP_NAME_LEN);
		__entry->unit = unit;
		__entry->nr = nr;
		__entry->version = version;
	),
	TP_printk("proxy=%s unit=%llu arm=%s nr=%u version=%u", __entry->proxy, __entry->unit,
		  __entry->nr ? "model" : "default", __entry->nr, __entry->version)
);

TRACE_EVENT(mlproxy_reject,
	TP_PROTO(const char *proxy, u32 why, u64 now),
	TP_ARGS(proxy, why, now),
	TP_STRUCT__entry(
		__array(char, proxy, MLP_NAME_LEN)
		__field(u32, why)
		__field(u64, now)
	),
	TP_fast_assign(
		strscpy_pad(__entry->proxy, proxy, MLP_NAME_LEN);
		__entry->why = why;
		__entry->now = now;
	),
	TP_printk("proxy=%s why=%u now=%llu", __entry->proxy, __entry->why, __entry->now)
);

#endif /* _MLPROXY_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
