/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM vsvm

#if !defined(_VSVM_TRACE_H_) || defined(TRACE_HEADER_MULTI_READ)
#define _VSVM_TRACE_H_

#include <linux/tracepoint.h>
#include <linux/types.h>

#include "vsvm_drv.h"

TRACE_EVENT(vsvm_gpu_fault,
	    TP_PROTO(const struct vsvm_fault *fault, int result),
	    TP_ARGS(fault, result),
	    TP_STRUCT__entry(__field(u64, vm)
			     __field(unsigned long, addr)
			     __field(bool, write)
			     __field(unsigned int, tries)
			     __field(int, result)
			    ),
	    TP_fast_assign(__entry->vm = fault->vm->context;
			   __entry->addr = fault->addr;
			   __entry->write = fault->write;
			   __entry->tries = fault->tries;
			   __entry->result = result;
			  ),
	    TP_printk("vm=%llu addr=%#lx write=%d tries=%u result=%d",
		      __entry->vm, __entry->addr, __entry->write,
		      __entry->tries, __entry->result)
);

TRACE_EVENT(vsvm_invalidate,
	    TP_PROTO(const struct vsvm_vm *vm, unsigned long start,
		     unsigned long end, unsigned int event),
	    TP_ARGS(vm, start, end, event),
	    TP_STRUCT__entry(__field(u64, vm)
			     __field(unsigned long, start)
			     __field(unsigned long, end)
			     __field(unsigned int, event)
			    ),
	    TP_fast_assign(__entry->vm = vm->context;
			   __entry->start = start;
			   __entry->end = end;
			   __entry->event = event;
			  ),
	    TP_printk("vm=%llu start=%#lx end=%#lx event=%u",
		      __entry->vm, __entry->start, __entry->end, __entry->event)
);

TRACE_EVENT(vsvm_job_begin,
	    TP_PROTO(const struct vsvm_vm *vm, u64 job, unsigned int num_ops),
	    TP_ARGS(vm, job, num_ops),
	    TP_STRUCT__entry(__field(u64, vm)
			     __field(u64, job)
			     __field(unsigned int, num_ops)
			    ),
	    TP_fast_assign(__entry->vm = vm->context;
			   __entry->job = job;
			   __entry->num_ops = num_ops;
			  ),
	    TP_printk("vm=%llu job=%llu num_ops=%u",
		      __entry->vm, __entry->job, __entry->num_ops)
);

TRACE_EVENT(vsvm_job_end,
	    TP_PROTO(const struct vsvm_vm *vm,
		     const struct vsvm_failure *status),
	    TP_ARGS(vm, status),
	    TP_STRUCT__entry(__field(u64, vm)
			     __field(u64, job)
			     __field(int, error)
			     __field(u32, op)
			     __field(u64, address)
			    ),
	    TP_fast_assign(__entry->vm = vm->context;
			   __entry->job = status->job;
			   __entry->error = status->error;
			   __entry->op = status->op;
			   __entry->address = status->address;
			  ),
	    TP_printk("vm=%llu job=%llu error=%d op=%u address=%#llx",
		      __entry->vm, __entry->job, __entry->error, __entry->op,
		      __entry->address)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH ../../drivers/gpu/drm/vsvm
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE vsvm_trace
#include <trace/define_trace.h>
