/** A mesh under constant load for long: --help says how. */
import { inspect, parseArgs } from 'node:util';
import { undergo } from '../tests/chaos/ordeal.ts';
import { soak } from '../tests/chaos/soak.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '20' },
    seed: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

const USAGE = `bun scripts/soak.ts [options]

Two hosts in network namespaces, requests without pause, certificates that live for 20 seconds, another policy every second, agents restarted and upgraded at random. Needs root,
dist/picket, and what scripts/test installs.

  --minutes N  how long (20)
  --seed N     equal seeds restart the same agents; chosen at random and printed unless given
  --help
`;
/** By how much a process may have grown from the second to the last quarter of its life. */
const MAX_GROWTH = 0.15;

const minutes = Number(values.minutes);
const seed = Number(values.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]);
if (values.help) process.stdout.write(USAGE);
else if (!(minutes > 0) || !Number.isInteger(seed)) {
  process.stderr.write('--minutes and --seed are numbers\n');
  process.exitCode = 2;
} else process.exitCode = await run();

async function run(): Promise<number> {
  console.log(`${minutes} minutes, seed ${seed}`);
  const report = await undergo(
    soak({
      seconds: minutes * 60,
      seed,
      progress: (text) => console.log(`${new Date().toISOString()} ${text}`),
    }),
  );
  const grown = report.memory.filter(({ early, late }) => late > early * (1 + MAX_GROWTH));
  const { requests, policies, disturbances, failed, lost, unrecorded, untrue, memory } = report;
  console.log(`${requests} requests, ${policies} policies, ${disturbances} restarts and upgrades`);
  console.log(`${failed} failed while an agent was away`);
  console.log(`${lost.length} lost`);
  for (const loss of lost.slice(0, 20))
    console.log(inspect(loss, { maxArrayLength: null, maxStringLength: null }));
  console.log(`${unrecorded.length} not recorded once`, unrecorded.slice(0, 20));
  console.log(`${untrue.length} answered untruly`, untrue.slice(0, 20));
  for (const { name, seconds, early, late } of memory)
    console.log(
      `${name}: ${early.toFixed(1)} MiB, then ${late.toFixed(1)} MiB within ${seconds.toFixed(0)} s`,
    );
  const isWhole = [lost, unrecorded, untrue, grown].every((list) => list.length === 0);
  console.log(isWhole ? 'passed' : 'FAILED');
  return isWhole ? 0 : 1;
}
