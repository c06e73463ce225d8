import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { MeshHost } from '../../kit/mesh-host.ts';
import { Child } from '../../kit/child.ts';
import { waitUntil } from '../../kit/wait.ts';
import { python, pythonService, TrafficMesh } from '../traffic/traffic-mesh.ts';

/** Somebody makes the kernel forget all connections (`conntrack -F`) while captured ones are open and others are being opened. */

setDefaultTimeout(120_000);

const LINES = '../../bad-days/programs/lines.py';
const PORT = 8087;
const OPEN = 40;
const OPENED_MEANWHILE = 150;
/** So often the kernel forgets before the second half of those has come, and then until all have. */
const FORGOTTEN = 3;
let traffic: TrafficMesh;
let wire: Child;

beforeAll(async () => {
  const args = ['serve', String(PORT)];
  const lines = pythonService({ path: '/lines', uid: 7331, listen: [String(PORT)], program: LINES, args });
  traffic = await TrafficMesh.open({ services: [lines], isOpen: passes });
  // The agent's connections have ports that connections of programs have too.
  await traffic.desk.host.runOk('sysctl', '-qw', 'net.ipv4.ip_local_port_range=40000 40700');
  // Content between the hosts beside the mesh: there is none.
  const filter = `tcp port ${PORT} and (tcp[tcpflags] & tcp-push != 0)`;
  wire = new Child({
    command: traffic.desk.host.in('tcpdump', '--immediate-mode', '-lnn', '-i', 'eth0', filter),
    logFile: join(traffic.folder, 'wire.log'),
  });
  await wire.ready('the wire is watched', () => wire.log().includes('listening on'));
}, 120_000);
afterAll(async () => {
  await wire?.stop();
  await traffic?.close();
});

async function passes(open: TrafficMesh): Promise<boolean> {
  const talk = `exec 3<>/dev/tcp/${open.store.host.ipv4}/${PORT} && echo one >&3 && read -r line <&3 && [ "$line" = one ]`;
  return (await open.asCaller(['timeout', '5', 'bash', '-c', talk])).exitCode === 0;
}

/** Connections of /caller; what became of them is in what it prints. Behind the first `halt` of them it waits for `on`. */
function startCrowd(
  name: string,
  count: number,
  halt = count,
): { readonly child: Child; readonly go: (on: 'on' | 'again' | 'end') => void } {
  const folder = join(traffic.folder, name);
  mkdirSync(folder, { mode: 0o755 });
  const args = ['crowd', folder, traffic.store.host.ipv4, String(PORT), String(count), String(halt)];
  return {
    child: traffic.startCaller(name, python(LINES, ...args)),
    go: (on) => writeFileSync(join(folder, on), ''),
  };
}

const forget = async ({ host }: MeshHost): Promise<string> => await host.runOk('conntrack', '-F');

/** How many of a crowd's connections could be opened, how long the slowest of the others waited, and how many of the open ones were lost later. */
function readCrowd({
  log,
}: {
  log: () => string;
}): Readonly<Record<'open' | 'refused' | 'longestMs' | 'works' | 'lost', number>> {
  const text = log();
  const number = (word: string): number =>
    Number(new RegExp(`\\b${word} (\\d+)`).exec(text)?.[1] ?? Number.NaN);
  return {
    open: number('open'),
    refused: number('refused'),
    longestMs: number('longest'),
    works: number('works'),
    lost: number('lost'),
  };
}

test.each(['store', 'desk'] as const)(
  'on %s: connections go on or end with an error at once, new ones work, and nothing fails open',
  async (name) => {
    const quiet = startCrowd(`quiet-${name}`, OPEN);
    const log = { log: () => quiet.child.log() };
    await waitUntil('connections are open', () => quiet.child.log().includes('open '));
    expect(readCrowd(log)).toMatchObject({ open: OPEN, refused: 0 });

    const coming = startCrowd(`coming-${name}`, OPENED_MEANWHILE, OPENED_MEANWHILE / 2);
    let times = 0;
    await waitUntil(
      'connections have come while the kernel forgot',
      async () => {
        await forget(traffic[name]);
        times += 1;
        if (times === FORGOTTEN) coming.go('on');
        return coming.child.log().includes('open ');
      },
      60_000,
    );
    const { open, refused, longestMs } = readCrowd({ log: () => coming.child.log() });
    expect(open + refused).toBe(OPENED_MEANWHILE);
    // Nobody waits for his own time limit, which is 20 s.
    expect(longestMs).toBeLessThan(10_000);

    const askedMs = performance.now();
    for (const crowd of [quiet, coming]) crowd.go('again');
    await waitUntil('all have spoken again', () =>
      [quiet, coming].every(({ child }) => child.log().includes('works ')),
    );
    expect(performance.now() - askedMs).toBeLessThan(15_000);
    const { works, lost } = readCrowd(log);
    expect(works + lost).toBe(OPEN);
    // Only the calling side's connections are translated.
    if (name === 'store') expect([refused, lost]).toEqual([0, 0]);
    for (const crowd of [quiet, coming]) crowd.go('end');
    await waitUntil('a new connection works', async () => await passes(traffic));
    expect(wire.log()).not.toContain(`.${PORT}: Flags`);
  },
);

test('it is told whose connections the agent had to end', () => {
  expect(traffic.desk.log()).toMatch(/"event":"left_over_ended","source":\{"address":"10\.9\.0\.3"/);
});
