/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * mlproxy user ABI: the ioctls of /dev/mlproxy.
 *
 * An open file belongs to at most one proxy: one of an in-kernel user, to which
 * it was attached, or one that it created and that ends with it. Whoever has
 * the proxy is its agent; closing the file is the agent's death.
 *
 * The ring is mapped from offset 0, read-only: meta page, then records. poll()
 * is readable when at least the watermark's number of records is unread or the
 * mode has changed since the last CONSUME, and POLLHUP when the proxy is gone.
 *
 * The argument's size is part of each number. Reserved fields and flags must
 * be zero. Errors that every call may give: ENOTTY unknown number, EFAULT,
 * EINVAL reserved field or wrong number, ENOTCONN the file has no proxy,
 * ENODEV the proxy's owner is gone, ENOMEM. EFAULT for an answer that could not
 * be written does not undo the call.
 */
#ifndef _UAPI_MLPROXY_IOCTL_H
#define _UAPI_MLPROXY_IOCTL_H

#include <linux/ioctl.h>
#include <linux/types.h>
#include "mlproxy.h"

#define MLP_MAX_KNOBS		8
#define MLP_KNOB_TEXT		64
#define MLP_MAX_CAPACITY	1048576	/* records of a ring */

/* enum mlp_clock - whose time a proxy lives in. */
enum mlp_clock {
	MLP_CLOCK_MONOTONIC	= 0,	/* ns of CLOCK_MONOTONIC; @now is ignored */
	MLP_CLOCK_CALLER	= 1,	/* what each call says */
	MLP_CLOCK_OWNER		= 2,	/* the in-kernel user's; @now is ignored */
};

/* What the module can do (struct mlp_ioc_info). */
#define MLP_FEATURE_KNOBS	1
#define MLP_FEATURE_STRUCT_OPS	2

/* What an agent may do beside steering (struct mlp_ioc_attach). */
#define MLP_AGENT_REPORTS	1	/* REPORT: it measures the arms' costs */
#define MLP_AGENT_TWINS		2	/* REPORT_TWIN: it runs the twins */
#define MLP_AGENT_DECIDES	4	/* DECIDE: the operations are its own */

/**
 * struct mlp_ioc_info - of the module.
 * @abi_version: MLP_ABI_VERSION
 * @features: MLP_FEATURE_*
 * @nr_proxies: proxies there are
 * @panic: 1 while the panic button holds all of them in emergency
 * @version: of the module, text
 * @proxy_bytes: kernel memory of a proxy without ring and programs
 * @reserved: zero
 */
struct mlp_ioc_info {
	__u32 abi_version;
	__u32 features;
	__u32 nr_proxies;
	__u32 panic;
	char version[32];
	__u64 proxy_bytes;
	__u64 reserved[3];
};

/**
 * struct mlp_knob - a tunable that a proxy holds.
 * @fd: open for writing, of sysfs, cgroup2 or /proc/sys; better also for
 *	reading: then a value that somebody else has written is noticed
 * @flags: 0
 * @min: least value that may be written
 * @max: largest
 * @restore: what is written to put the default back, text with its NUL
 * @trigger: empty, or text that makes written values count ("commit"): then
 *	     this knob has no value of its own (@min, @max and its column of the
 *	     settings are 0), @trigger is written to it after each change of the
 *	     others, and @restore when the proxy ends, last of all
 * @reserved: zero
 */
struct mlp_knob {
	__s32 fd;
	__u32 flags;
	__s64 min;
	__s64 max;
	char restore[MLP_KNOB_TEXT];
	char trigger[MLP_KNOB_TEXT];
	__u64 reserved[2];
};

/**
 * struct mlp_ioc_create - make a proxy that ends with this file.
 *
 * With knobs: of kind VALUE (the value is written to the first knob, others can
 * only be triggers) or CHOICE (a row
 * of @settings is), trial SWITCHBACK, MLP_CLOCK_MONOTONIC. Needs CAP_SYS_ADMIN.
 * The module writes a model's value for a model's epoch and @restore in all
 * other times, on emergency, on the agent's death.
 *
 * On any error @bad names what is wrong: a field, of the configuration or of
 * this, or one knob or setting ("knobs[1]"). EINVAL: not allowed. EEXIST: the
 * name is taken. EPROTONOSUPPORT: @abi_version. EISCONN: the file has a proxy.
 * EPERM, EBADF, EOPNOTSUPP: a knob's file may
 * not be taken (no capability; not open for writing; not such a file).
 * ERANGE: a setting outside its knob's range. EBUSY: the knob has an owner.
 *
 * @abi_version: MLP_ABI_VERSION
 * @clock: MLP_CLOCK_MONOTONIC or MLP_CLOCK_CALLER
 * @capacity: records of the ring, a power of two, 1..MLP_MAX_CAPACITY
 * @nr_knobs: 0..MLP_MAX_KNOBS
 * @knobs: address of struct mlp_knob[nr_knobs]
 * @settings: CHOICE with knobs: address of __s64[nr_settings][nr_knobs]
 * @nr_settings: config.max + 1, or 0
 * @default_action: knobs: what samples give as the default's action
 * @config: of the proxy
 * @bad: out: what is wrong, text
 * @reserved: zero
 */
struct mlp_ioc_create {
	__u32 abi_version;
	__u32 clock;
	__u32 capacity;
	__u32 nr_knobs;
	__u64 knobs;
	__u64 settings;
	__u32 nr_settings;
	__s32 default_action;
	struct mlp_config config;
	char bad[32];
	__u64 reserved[4];
};

/**
 * struct mlp_ioc_attach - become the agent of an in-kernel user's proxy.
 *
 * EPROTONOSUPPORT: @abi_version. ENOENT: no such proxy. EBUSY: it has an agent. EISCONN: this file has a proxy.
 *
 * @abi_version: MLP_ABI_VERSION
 * @clock: out
 * @name: which
 * @capacity: out: records of the ring
 * @rights: out: MLP_AGENT_*
 * @config: out
 * @watchdog: ns of real time without a HEARTBEAT until emergency, for proxies
 *	      whose own clock says nothing about that; 0: none
 * @reserved: zero
 */
struct mlp_ioc_attach {
	__u32 abi_version;
	__u32 clock;
	char name[MLP_NAME_LEN];
	__u32 capacity;
	__u32 rights;
	struct mlp_config config;
	__u64 watchdog;
	__u64 reserved[3];
};

/**
 * struct mlp_ioc_reinit - begin anew with another configuration. Only a
 * stopped proxy (EBUSY), and only what does not concern the decision itself:
 * name, kind, trial, streams, features, max_nodes, min and max stay (EPERM). An
 * in-kernel user's proxy: needs CAP_SYS_ADMIN (EPERM).
 */
struct mlp_ioc_reinit {
	struct mlp_config config;
	char bad[32];		/* out */
	__u64 now;
	__u64 reserved[2];
};

/* START (EBUSY: runs already), HEARTBEAT, TICK (MLP_CLOCK_CALLER only) */
struct mlp_ioc_time {
	__u64 now;
	__u64 reserved;
};

/*
 * STOP: @mode 0. SET_MODE: EBUSY while stopped or held; a mode above the
 * present one needs CAP_SYS_ADMIN (EPERM).
 */
struct mlp_ioc_mode {
	__u32 mode;
	__u32 reason;
	__u64 now;
	__u64 reserved;
};

/*
 * CRITICAL: off takes back what this agent has said, not what the owner has.
 * OPERATOR: needs CAP_SYS_ADMIN to release (EPERM), which it cannot while the
 * panic button is pressed (EBUSY).
 */
struct mlp_ioc_switch {
	__u32 on;
	__u32 flags;
	__u64 now;
	__u64 reserved;
};

/**
 * struct mlp_ioc_submit - hand in a recommendation.
 * @data: address of struct mlp_recommendation and its payload
 * @length: bytes
 * @reject: out: enum mlp_reject
 * @now: MLP_CLOCK_CALLER
 * @reserved: zero
 *
 * Refused ones are counted and give an errno by reason: VERSION EPROTO, KIND
 * EPROTOTYPE, RANGE and LEAF ERANGE, EXPIRED ETIME, EXPIRY EOVERFLOW, REPLAY
 * EALREADY, CANDIDATE ENXIO, DUPLICATE EEXIST, SIZE EMSGSIZE, INDEX EBADSLT,
 * CYCLE ELOOP, DEPTH E2BIG, RESERVED EINVAL, MODEL EKEYREJECTED, STATE ESHUTDOWN.
 */
struct mlp_ioc_submit {
	__u64 data;
	__u32 length;
	__u32 reject;
	__u64 now;
	__u64 reserved;
};

/* CONSUME: records up to and with sequence number @upto are read. */
struct mlp_ioc_consume {
	__u64 upto;
	__u64 reserved;
};

/* WATERMARK: poll() wakes up at so many unread records; 1 at first. */
struct mlp_ioc_watermark {
	__u32 records;
	__u32 reserved;
};

/* SNAPSHOT: @now: MLP_CLOCK_CALLER, else 0. */
struct mlp_ioc_snapshot {
	__u64 now;
	__u64 reserved;
	struct mlp_snapshot snapshot;	/* out */
};

/* DECIDE: needs MLP_AGENT_DECIDES (EPERM), as RANK does. */
struct mlp_ioc_decide {
	__u64 unit;
	__u64 now;
	__u32 stream;
	__s32 default_action;
	__s32 features[MLP_MAX_FEATURES];
	struct mlp_decision decision;	/* out */
	__u64 reserved;
};

struct mlp_ioc_rank {
	__u64 unit;
	__u64 now;
	__u32 max;
	__u32 nr;			/* out */
	__u64 ids[MLP_MAX_RANK];	/* out */
	__u64 reserved;
};

/* REPORT: needs MLP_AGENT_REPORTS (EPERM). */
struct mlp_ioc_report {
	__u32 arm;
	__u32 flags;
	__u64 unit;
	__s64 cost;
	__u64 now;
	__u64 reserved;
};

/* REPORT_TWIN: needs MLP_AGENT_TWINS (EPERM). */
struct mlp_ioc_twin {
	__s64 cost_default;
	__s64 cost_model;
	__u64 now;
	__u64 reserved;
};

/* PUBLISH: a LABEL, or a SAMPLE of a proxy with MLP_AGENT_DECIDES. */
struct mlp_ioc_publish {
	struct mlp_record record;
	__u64 reserved;
};

/**
 * struct mlp_ioc_knobs - what a knob proxy does now. ENOENT: it has no knobs.
 * @applied: 1 while a model's setting is in force
 * @overridden: 1 + index of the knob that somebody else has changed, or 0
 * @setting: the value or choice in force
 * @writes: of model settings
 * @restores: of defaults
 * @failures: writes that a knob did not take
 * @since: CLOCK_MONOTONIC ns of the last change, 0: never changed
 * @reserved: zero
 */
struct mlp_ioc_knobs {
	__u32 applied;
	__u32 overridden;
	__s64 setting;
	__u64 writes;
	__u64 restores;
	__u64 failures;
	__u64 since;
	__u64 reserved;
};

#define MLP_IOC_MAGIC		0xed

#define MLP_IOC_INFO		_IOR(MLP_IOC_MAGIC, 0x00, struct mlp_ioc_info)
#define MLP_IOC_CREATE		_IOWR(MLP_IOC_MAGIC, 0x01, struct mlp_ioc_create)
#define MLP_IOC_ATTACH		_IOWR(MLP_IOC_MAGIC, 0x02, struct mlp_ioc_attach)
#define MLP_IOC_REINIT		_IOWR(MLP_IOC_MAGIC, 0x03, struct mlp_ioc_reinit)
#define MLP_IOC_START		_IOW(MLP_IOC_MAGIC, 0x04, struct mlp_ioc_time)
#define MLP_IOC_STOP		_IOW(MLP_IOC_MAGIC, 0x05, struct mlp_ioc_mode)
#define MLP_IOC_HEARTBEAT	_IOW(MLP_IOC_MAGIC, 0x06, struct mlp_ioc_time)
#define MLP_IOC_TICK		_IOW(MLP_IOC_MAGIC, 0x07, struct mlp_ioc_time)
#define MLP_IOC_SUBMIT		_IOWR(MLP_IOC_MAGIC, 0x08, struct mlp_ioc_submit)
#define MLP_IOC_SET_MODE	_IOW(MLP_IOC_MAGIC, 0x09, struct mlp_ioc_mode)
#define MLP_IOC_OPERATOR	_IOW(MLP_IOC_MAGIC, 0x0a, struct mlp_ioc_switch)
#define MLP_IOC_CRITICAL	_IOW(MLP_IOC_MAGIC, 0x0b, struct mlp_ioc_switch)
#define MLP_IOC_CONSUME		_IOW(MLP_IOC_MAGIC, 0x0c, struct mlp_ioc_consume)
#define MLP_IOC_WATERMARK	_IOW(MLP_IOC_MAGIC, 0x0d, struct mlp_ioc_watermark)
#define MLP_IOC_SNAPSHOT	_IOWR(MLP_IOC_MAGIC, 0x0e, struct mlp_ioc_snapshot)
#define MLP_IOC_DECIDE		_IOWR(MLP_IOC_MAGIC, 0x0f, struct mlp_ioc_decide)
#define MLP_IOC_RANK		_IOWR(MLP_IOC_MAGIC, 0x10, struct mlp_ioc_rank)
#define MLP_IOC_REPORT		_IOW(MLP_IOC_MAGIC, 0x11, struct mlp_ioc_report)
#define MLP_IOC_REPORT_TWIN	_IOW(MLP_IOC_MAGIC, 0x12, struct mlp_ioc_twin)
#define MLP_IOC_PUBLISH		_IOW(MLP_IOC_MAGIC, 0x13, struct mlp_ioc_publish)
#define MLP_IOC_KNOBS		_IOR(MLP_IOC_MAGIC, 0x14, struct mlp_ioc_knobs)

#endif /* _UAPI_MLPROXY_IOCTL_H */
