import { parseListeners } from '../../../agent/capture/ssh-ports.ts';
import { findCgroupMount } from '../../../agent/native/cgroup.ts';
import { parseStartTime } from '../../../agent/workload-api/peer.ts';
import { parseAccountNames } from '../../../agent/workload-attestation/account-names.ts';
import { parseStat, parseStatus } from '../../../agent/workload-attestation/process-facts.ts';
import { parseDescriptorLimit } from '../../../shared/runtime/process-limits.ts';
import { SEEDS } from '../seeds.ts';
import { requireSame, requireThat, words, type FuzzTarget } from '../target.ts';

/** Texts of /proc and of account files, parts of which any program may choose: ids are numbers, and two readers agree. */
export const target: FuzzTarget = {
  seeds: words(
    SEEDS.procStat,
    SEEDS.procStatus,
    SEEDS.procNetTcp,
    'Limit                     Soft Limit           Hard Limit           Units\nMax open files            1024                 524288               files\n',
    '32 23 0:27 / /sys/fs/cgroup/a\\040b rw shared:9 - cgroup2 cgroup2 rw\n',
    'root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/:\n+nis\n',
  ),
  dictionary: words(
    '(',
    ')',
    ') S 1 ',
    ' ',
    '\n',
    '\r',
    '\t',
    'Uid:\t0\t0\t0\t0\n',
    'Gid:\t0\t0\t0\t0\n',
    'Groups:\t0 \n',
    '\0',
    '-1',
    '99999999999999999999',
    ' 0A ',
    'Max open files ',
    'unlimited',
    ' - cgroup2 ',
    '\\040',
    ':',
  ),
  maxBytes: 4096,
  check(input) {
    const text = input.toString('latin1');
    const stat = parseStat(text);
    if (stat !== undefined) requireSame(BigInt(parseStartTime(text) ?? -1), stat.startTime, 'the start time');
    const status = parseStatus(text);
    for (const ids of [status?.uids, status?.gids, status?.groups])
      requireThat(
        (ids ?? []).every((id) => Number.isSafeInteger(id) && id >= 0),
        'an id that is none',
      );
    const names = parseAccountNames(text);
    for (const [id, name] of names)
      requireThat(Number.isSafeInteger(id) && name !== '' && !/[:\n]/.test(name), 'a name that is none');
    const ports = [...parseListeners(text).values()];
    requireThat(
      ports.every((port) => Number.isInteger(port) && port >= 0 && port < 65_536),
      'a port that is none',
    );
    const mount = findCgroupMount(text);
    requireThat(mount === undefined || mount.startsWith('/'), 'a mount that is nowhere');
    const limit = parseDescriptorLimit(text);
    requireThat(limit >= 0, 'a limit that is none');
    return `${mount !== undefined} ${Number.isFinite(limit)} ${stat !== undefined} ${status?.groups.length} ${Math.min(3, names.size)} ${Math.min(3, ports.length)}`;
  },
};
