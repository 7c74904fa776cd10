/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM drm_pagemap

#if !defined(_DRM_PAGEMAP_TRACE_H_) || defined(TRACE_HEADER_MULTI_READ)
#define _DRM_PAGEMAP_TRACE_H_

#include <linux/device.h>
#include <linux/tracepoint.h>
#include <linux/types.h>

#include <drm/drm_pagemap.h>

TRACE_EVENT(drm_pagemap_migrate_begin,
	    TP_PROTO(const struct drm_pagemap_migration *mig),
	    TP_ARGS(mig),
	    TP_STRUCT__entry(__field(unsigned long, start)
			     __field(unsigned long, end)
			     __field(unsigned int, flags)
			    ),
	    TP_fast_assign(__entry->start = mig->start;
			   __entry->end = mig->end;
			   __entry->flags = mig->flags;
			  ),
	    TP_printk("start=%#lx end=%#lx flags=%#x",
		      __entry->start, __entry->end, __entry->flags)
);

TRACE_EVENT(drm_pagemap_migrate_end,
	    TP_PROTO(const struct drm_pagemap_migration *mig, int result),
	    TP_ARGS(mig, result),
	    TP_STRUCT__entry(__field(unsigned long, start)
			     __field(unsigned long, end)
			     __field(unsigned long, moved)
			     __field(unsigned long, from_peers)
			     __field(unsigned long, resident)
			     __field(unsigned long, left)
			     __field(int, result)
			    ),
	    TP_fast_assign(__entry->start = mig->start;
			   __entry->end = mig->end;
			   __entry->moved = mig->moved;
			   __entry->from_peers = mig->from_peers;
			   __entry->resident = mig->resident;
			   __entry->left = mig->left;
			   __entry->result = result;
			  ),
	    TP_printk("start=%#lx end=%#lx moved=%lu from_peers=%lu resident=%lu left=%lu result=%d",
		      __entry->start, __entry->end, __entry->moved,
		      __entry->from_peers, __entry->resident, __entry->left,
		      __entry->result)
);

TRACE_EVENT(drm_pagemap_fault,
	    TP_PROTO(const struct device *dev, unsigned long addr,
		     unsigned long start, unsigned long end, unsigned long moved,
		     int result),
	    TP_ARGS(dev, addr, start, end, moved, result),
	    TP_STRUCT__entry(__string(dev, dev_name(dev))
			     __field(unsigned long, addr)
			     __field(unsigned long, start)
			     __field(unsigned long, end)
			     __field(unsigned long, moved)
			     __field(int, result)
			    ),
	    TP_fast_assign(__assign_str(dev);
			   __entry->addr = addr;
			   __entry->start = start;
			   __entry->end = end;
			   __entry->moved = moved;
			   __entry->result = result;
			  ),
	    TP_printk("dev=%s addr=%#lx start=%#lx end=%#lx moved=%lu result=%d",
		      __get_str(dev), __entry->addr, __entry->start, __entry->end,
		      __entry->moved, __entry->result)
);

TRACE_EVENT(drm_pagemap_evict,
	    TP_PROTO(const struct device *dev, unsigned long npages,
		     unsigned long moved, int result),
	    TP_ARGS(dev, npages, moved, result),
	    TP_STRUCT__entry(__string(dev, dev_name(dev))
			     __field(unsigned long, npages)
			     __field(unsigned long, moved)
			     __field(int, result)
			    ),
	    TP_fast_assign(__assign_str(dev);
			   __entry->npages = npages;
			   __entry->moved = moved;
			   __entry->result = result;
			  ),
	    TP_printk("dev=%s npages=%lu moved=%lu result=%d",
		      __get_str(dev), __entry->npages, __entry->moved,
		      __entry->result)
);

TRACE_EVENT(drm_pagemap_release,
	    TP_PROTO(const struct drm_pagemap_devmem *devmem),
	    TP_ARGS(devmem),
	    TP_STRUCT__entry(__string(dev, dev_name(devmem->dev))
			     __field(const void *, devmem)
			     __field(size_t, size)
			    ),
	    TP_fast_assign(__assign_str(dev);
			   __entry->devmem = devmem;
			   __entry->size = devmem->size;
			  ),
	    TP_printk("dev=%s devmem=%p size=%zu",
		      __get_str(dev), __entry->devmem, __entry->size)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH ../../drivers/gpu/drm
#define TRACE_INCLUDE_FILE drm_pagemap_trace
#include <trace/define_trace.h>
