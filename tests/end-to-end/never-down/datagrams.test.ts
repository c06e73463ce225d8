import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CaptureBackend } from '../../../agent/capture/capture.ts';
import { listRecords } from '../../kit/access-records.ts';
import { prepareCapture } from '../../kit/captured-host.ts';
import type { Child } from '../../kit/child.ts';
import { DatagramPrograms } from '../../kit/datagram-programs.ts';
import type { Mesh } from '../../kit/mesh.ts';
import type { MeshHost } from '../../kit/mesh-host.ts';
import type { TestHost } from '../../kit/netns.ts';
import { createPod, podAddresses, type TestPod } from '../../kit/pods.ts';
import { POD_ADDRESSES, POD_USER as USER, PodsMesh } from '../../kit/pods-mesh.ts';
import { SteadyDatagrams, type StreamTold } from '../../kit/steady-datagrams.ts';
import { waitUntil } from '../../kit/wait.ts';
import { awaitEnd, statusOf } from './upgraded.ts';

/** UDP of a host and of a pod goes on while the agent is replaced by one with another number of workers, and nothing passes that nobody has allowed. */

setDefaultTimeout(300_000);

const STRANGER = 7003;
const ALLOWED = 9000;
const OTHER = 9001;
const EVERY_MS = 10;
/** How long a flow may stand still while one agent gives it to the next, in milliseconds: less than it takes to be forgotten that it was denied, or to end by itself. A machine with nothing else to do takes some ten. */
const MAX_GAP_MS = 1500;

interface Variant {
  readonly backend: CaptureBackend;
  readonly by: 'name' | 'pattern';
  /** One after the other, each the number of workers of the next agent; 1 is none. It begins with none. */
  readonly numbers: readonly number[];
}
const VARIANTS: readonly Variant[] = [
  { backend: 'nftables', by: 'name', numbers: [2, 3, 1, 3, 2, 1] },
  { backend: 'ebpf', by: 'pattern', numbers: [3, 1] },
];

describe.each(VARIANTS)('pods found by $by, captured by $backend', ({ backend, by, numbers }) => {
  const podName = `pk${process.pid}never${backend}`;
  const stack = new AsyncDisposableStack();
  let mesh: Mesh;
  let desk: MeshHost;
  let outsider: TestHost;
  let pod: TestPod;
  let echo: Child;
  let steady: SteadyDatagrams;

  beforeAll(async () => {
    const pods = await PodsMesh.open();
    stack.defer(async () => await pods.close());
    ({ mesh, outsider } = pods);
    const { folder, network, deskHost } = pods;
    await deskHost.runOk('sysctl', '-qw', 'net.ipv4.ip_forward=1');
    const { ipv4, ipv6 } = podAddresses(network, 2);
    const namespace =
      by === 'name'
        ? { name: 'front', path: `/run/netns/${podName}`, addresses: [ipv4, ipv6] }
        : { name: 'front', pattern: `${podName}*`, addresses_in: POD_ADDRESSES, most: 4 };
    const settings = {
      proxy: { workers: 1 },
      egress: { udp: 'policy' },
      capture: { namespaces: [namespace] },
    };
    const captured = await prepareCapture(deskHost, { backend, settings }, stack);
    const made = await createPod(podName, { network, last: 2 });
    stack.defer(async () => await made.remove());
    pod = { ...made, in: (...command) => captured.host.in(...made.in(...command)) };
    desk = await mesh.joinHost(captured.host, 'desk', captured.settings);
    for (const more of [[], ['netns:name:front']])
      await mesh.register({ path: '/web', on: desk, selectors: [`unix:uid:${USER}`, ...more] });
    const programs = new DatagramPrograms(join(folder, 'echo'));
    echo = await programs.serve(outsider, ALLOWED, OTHER);
    stack.defer(async () => void (await echo.stop()));
    steady = new SteadyDatagrams(join(folder, 'steady'));
    const policy = join(import.meta.dirname, '../../kit/policies/udp');
    await mesh.control.picketOk('policy', 'publish', policy, '-m', 'udp');
    for (const from of [desk.host, pod])
      await waitUntil('it is answered', async () => {
        const answer = await programs.ask(from, USER, { to: outsider.ipv4, port: ALLOWED });
        return answer === 'answered 0';
      });
  }, 180_000);
  afterAll(async () => await stack.disposeAsync());

  async function replace(workers: number): Promise<void> {
    const settings = readFileSync(desk.configFile, 'utf8');
    writeFileSync(desk.configFile, settings.replace(/"workers": \d+/, `"workers": ${workers}`));
    await desk.upgrade();
    await awaitEnd(desk);
    const status = await statusOf(desk);
    expect(status.workers).toHaveLength(workers === 1 ? 0 : workers);
    expect(status.udp).toMatchObject({ isHearing: true, deafIn: [] });
  }

  test(`with workers: none, then ${numbers.join(', ')}`, async () => {
    const to = { to: outsider.ipv4, port: ALLOWED };
    const places = { host: desk.host, pod };
    const each = Object.entries(places);
    const streams = each.map(([name, on]) => ({
      on,
      uid: USER,
      ...to,
      everyMs: EVERY_MS,
      text: `${name}-stream`,
    }));
    const news = each.map(([name, on]) => ({ on, uid: USER, ...to, everyMs: 200, text: `${name}-new` }));
    const refused = each.flatMap(([name, on]) => [
      { on, uid: STRANGER, ...to, everyMs: 50, text: `${name}-stranger` },
      { on, uid: USER, ...to, port: OTHER, everyMs: 50, text: `${name}-elsewhere` },
    ]);
    const endStreams = await Promise.all(streams.map(async (one) => await steady.stream(one)));
    const endNews = await Promise.all(news.map(async (one) => await steady.begin(one)));
    const endRefused = await Promise.all(refused.map(async (one) => await steady.stream(one)));
    for (const workers of numbers) await replace(workers);
    const [told, begun] = await Promise.all([
      Promise.all(endStreams.map(async (end) => await end())),
      Promise.all(endNews.map(async (end) => await end())),
    ]);
    const denied = await Promise.all(endRefused.map(async (end) => await end()));

    // Every one that is permitted goes on, and each time soon.
    for (const { sent, gaps } of told) {
      expect(sent).toBeGreaterThan(100);
      expect(gaps.filter(([, length]) => length * EVERY_MS > MAX_GAP_MS)).toEqual([]);
    }
    for (const { flows } of begun) {
      expect(flows.length).toBeGreaterThan(5);
      expect(flows.filter(([, tries]) => tries < 1)).toEqual([]);
    }
    // Nothing passes that may not, nor that nobody has decided on.
    for (const { sent } of denied) expect(sent).toBeGreaterThan(20);
    expect(echo.log()).not.toMatch(/-stranger|-elsewhere/);
    await expectAllDecided(told, begun);
  });

  /** Whatever the echo got from a port stands in the record as allowed, from there. */
  async function expectAllDecided(
    streams: readonly StreamTold[],
    begun: readonly { readonly flows: readonly (readonly [number, number])[] }[],
  ): Promise<void> {
    const ports = (index: number): readonly number[] => [
      streams[index]?.port ?? 0,
      ...(begun[index]?.flows.map(([port]) => port) ?? []),
    ];
    const sources = [desk.host.ipv4, pod.ipv4].flatMap((address, index) =>
      ports(index).map((port) => `${address}:${port}`),
    );
    const missing = await waitUntil('all is recorded', async () => {
      const records = await listRecords(mesh.control, '--decision', 'allow');
      const allowed = new Set(
        records.filter(({ protocol }) => protocol === 'udp').map(({ source }) => source),
      );
      const left = sources.filter((source) => !allowed.has(source));
      return left.length === 0 && { left };
    });
    expect(missing.left).toEqual([]);
  }
});
