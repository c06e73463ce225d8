import { compute, jump, jumpIf, load, loadConstant, register, store, type Line } from './bpf-instructions.ts';
import type { BtfQuery } from './btf.ts';
import { HOLDER_AREA, HOLDER_RECORD } from './holder-area.ts';
import type { KernelLines } from './kernel-lines.ts';

/** Places on the stack that these lines read: the socket's inode and the descriptor. */
export const INODE = -8;
export const FD = -16;
/** Places on the stack that they use themselves. */
const GROUPS = -24;
const GIDS = -32;
const HASH = -40;

const STACK = 10;
/** NGROUPS_MAX */
const MAX_GROUPS = 1 << 16;
/** FNV-1a. Who can choose groups at all gains nothing by two sets of the same hash: it had both. */
const HASH_BASIS = 0xcbf29ce484222325n;
const HASH_PRIME = 0x100000001b3n;

/** The eight ids in the order of the record. */
const IDS = ['uid', 'gid', 'suid', 'sgid', 'euid', 'egid', 'fsuid', 'fsgid'] as const;

/** What `stamp` asks of the kernel's types. */
export const STAMP_TYPES: BtfQuery['structs'] = {
  task_struct: ['group_leader', 'start_boottime', 'self_exec_id', 'real_cred', 'mm', 'nsproxy'],
  cred: [...IDS, 'group_info', 'user_ns'],
  group_info: ['ngroups', 'gid'],
  mm_struct: ['exe_file'],
  file: ['f_inode'],
  inode: ['i_ino', 'i_sb'],
  super_block: ['s_dev'],
  nsproxy: ['mnt_ns'],
  mnt_namespace: ['ns'],
  user_namespace: ['ns'],
  ns_common: ['inum'],
  fdtable: ['max_fds'],
};

/** Goes to the label unless the socket's inode is looked for. Uses r1, r2 and r3. */
export function skipUnsought(kernel: KernelLines, label: string): readonly Line[] {
  return [
    load(8, 1, STACK, INODE),
    compute(1, '&=', HOLDER_AREA.soughtMask),
    compute(2, '=', register(1)),
    compute(2, '>>=', 6),
    compute(2, '<<=', 3),
    kernel.area(3, HOLDER_AREA.sought),
    compute(3, '+=', register(2)),
    load(8, 3, 3, 0),
    compute(1, '&=', 63),
    compute(3, '>>=', register(1)),
    compute(3, '&=', 1),
    jumpIf(3, '==', 0, label),
  ];
}

/** Begins a record of the task in r6, which is in r9 from then on; goes to the label where there is no space left. Uses r1, r2 and r3. */
export function openRecord(kernel: KernelLines, label: string): readonly Line[] {
  return [
    kernel.area(1),
    load(4, 2, 1, HOLDER_AREA.count),
    jumpIf(2, '<', HOLDER_AREA.maxRecords, 'there is space'),
    ...cut(kernel),
    jump(label),
    { label: 'there is space' },
    compute(3, '=', register(2)),
    compute(3, '+=', 1),
    store(4, 1, HOLDER_AREA.count, 3),
    compute(2, '*=', HOLDER_AREA.recordBytes),
    kernel.area(9, HOLDER_AREA.records),
    compute(9, '+=', register(2)),
    load(8, 1, STACK, INODE),
    store(4, 9, HOLDER_RECORD.inode, 1),
    load(4, 1, STACK, FD),
    store(4, 9, HOLDER_RECORD.fd, 1),
    kernel.field(4, 1, 6, ['task_struct', 'pid']),
    store(4, 9, HOLDER_RECORD.tid, 1),
    kernel.field(4, 1, 6, ['task_struct', 'tgid']),
    store(4, 9, HOLDER_RECORD.pid, 1),
  ];
}

/** Says that not everything could be written down. Uses r1 and r2. */
export function cut(kernel: KernelLines): readonly Line[] {
  return [kernel.area(1), compute(2, '=', 1), store(4, 1, HOLDER_AREA.isCut, 2)];
}

/** Adds to the record in r9 what the process of the task in r6 is. Uses r0 to r5 and r8. */
export function stamp(kernel: KernelLines): readonly Line[] {
  const copy = (size: 4 | 8, from: readonly [string, string], to: number): readonly Line[] => [
    kernel.field(size, 2, 1, from),
    store(size, 9, to, 2),
  ];
  return [
    kernel.field(8, 8, 6, ['task_struct', 'group_leader']),
    compute(1, '=', register(8)),
    ...copy(8, ['task_struct', 'start_boottime'], HOLDER_RECORD.startTime),
    ...copy(8, ['task_struct', 'self_exec_id'], HOLDER_RECORD.execs),
    kernel.field(8, 1, 8, ['task_struct', 'real_cred']),
    ...IDS.flatMap((id, index) => copy(4, ['cred', id], HOLDER_RECORD.ids + 4 * index)),
    kernel.field(8, 2, 1, ['cred', 'user_ns']),
    kernel.innerField(4, 2, 2, ['user_namespace', 'ns', 'ns_common', 'inum']),
    store(4, 9, HOLDER_RECORD.userNamespace, 2),
    compute(2, '=', 0),
    store(4, 9, HOLDER_RECORD.userNamespace + 4, 2),
    ...hashGroups(kernel),
    kernel.field(8, 1, 8, ['task_struct', 'mm']),
    kernel.field(8, 1, 1, ['mm_struct', 'exe_file']),
    kernel.field(8, 1, 1, ['file', 'f_inode']),
    ...copy(8, ['inode', 'i_ino'], HOLDER_RECORD.program),
    kernel.field(8, 1, 1, ['inode', 'i_sb']),
    ...copy(4, ['super_block', 's_dev'], HOLDER_RECORD.device),
    kernel.field(8, 1, 8, ['task_struct', 'nsproxy']),
    kernel.field(8, 1, 1, ['nsproxy', 'mnt_ns']),
    kernel.innerField(4, 2, 1, ['mnt_namespace', 'ns', 'ns_common', 'inum']),
    store(4, 9, HOLDER_RECORD.mountNamespace, 2),
  ];
}

/** Of the credentials in r1. */
function hashGroups(kernel: KernelLines): readonly Line[] {
  return [
    kernel.field(8, 1, 1, ['cred', 'group_info']),
    kernel.field(4, 3, 1, ['group_info', 'ngroups']),
    compute(1, '+=', kernel.offset('group_info', 'gid')),
    store(8, STACK, GIDS, 1),
    loadConstant(1, HASH_BASIS),
    compute(1, '^=', register(3)),
    store(8, STACK, HASH, 1),
    jumpIf(3, '<=', MAX_GROUPS, 'groups are counted'),
    compute(3, '=', MAX_GROUPS),
    { label: 'groups are counted' },
    ...kernel.forEachNumber('groups', GROUPS, [
      load(4, 1, 0, 0),
      compute(1, '<<=', 2),
      load(8, 2, STACK, GIDS),
      compute(1, '+=', register(2)),
      // The array has no type of its own: its entries are read as what else is 32 bits wide.
      compute(1, '+=', -kernel.offset('fdtable', 'max_fds')),
      ...kernel.cast('fdtable'),
      kernel.field(4, 1, 0, ['fdtable', 'max_fds']),
      load(8, 2, STACK, HASH),
      compute(2, '^=', register(1)),
      loadConstant(3, HASH_PRIME),
      compute(2, '*=', register(3)),
      store(8, STACK, HASH, 2),
    ]),
    load(8, 1, STACK, HASH),
    store(8, 9, HOLDER_RECORD.groups, 1),
  ];
}
