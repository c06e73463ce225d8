/** The demonstration: `scripts/demo` sets up what it needs and starts it. Ends with 0 if everything came out as it claims. */
import { parseArgs } from 'node:util';
import { Narrator } from './narrator.ts';
import { PacketCapture } from './packet-capture.ts';
import * as scenes from './scenes.ts';
import { buildStage, type Stage } from './stage.ts';

const { values: options } = parseArgs({ options: { stay: { type: 'boolean', default: false } } });
const narrator = new Narrator({ isColoured: process.stdout.isTTY });
const stack = new AsyncDisposableStack();
const interrupted = Promise.withResolvers<'interrupted'>();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => interrupted.resolve('interrupted'));

process.exitCode = await main();

async function main(): Promise<number> {
  try {
    const ended = await Promise.race([play(), interrupted.promise]);
    if (ended === 'interrupted') return 130;
    return narrator.failures === 0 ? 0 : 1;
  } finally {
    await stack.disposeAsync();
  }
}

async function play(): Promise<void> {
  narrator.note('Building four hosts as network namespaces, a certificate authority, nginx and PostgreSQL …');
  const stage = await buildStage(stack);
  const scene = { stage, narrator };
  await scenes.attestHosts(scene);
  const capture = await PacketCapture.start((...command) => stage.desk.host.in(...command), {
    folder: stage.folder,
    peer: stage.store.host.ipv4,
  });
  await scenes.registerWorkloads(scene);
  await scenes.denyByDefault(scene);
  await scenes.decideRequests(scene);
  await scenes.tellUsersApart(scene);
  await scenes.refuseOutsider(scene);
  await scenes.changePolicy(scene);
  await scenes.showAudit(scene);
  await scenes.readWire(scene, capture);
  await scenes.killAgent(scene);
  await scenes.killServer(scene);
  sumUp();
  await farewell(stage);
}

function sumUp(): void {
  narrator.note('');
  narrator.note(
    narrator.failures === 0
      ? 'Everything came out as claimed.'
      : `${narrator.failures} claims did not hold: see ✗ above.`,
  );
}

async function farewell(stage: Stage): Promise<void> {
  if (!options.stay) {
    narrator.note('To play with it: ./scripts/demo --stay');
    return;
  }
  narrator.note('Everything stays up until you press Enter. In another terminal, as root, try:');
  for (const line of suggestions(stage)) narrator.output(line);
  await Promise.race([once(process.stdin), interrupted.promise]);
}

function suggestions({ control, desk, store }: Stage): readonly string[] {
  const onDesk = `ip netns exec ${desk.host.name}`;
  return [
    `export PICKET_SOCKET=${control.socket} PATH=$PWD/dist:$PATH`,
    'picket node list; picket entry list; picket policy list; picket audit access',
    `${onDesk} setpriv --reuid=7001 --regid=7001 --clear-groups curl -i http://${store.host.ipv4}/invoices`,
    `picket policy evaluate --caller spiffe://example.org/web --target-id spiffe://example.org/invoices --method POST --path /refunds`,
    'picket policy rollback 1',
    `${onDesk} picket agent capture show`,
  ];
}

async function once(stream: NodeJS.ReadStream): Promise<void> {
  await new Promise<void>((resolve) => stream.once('data', () => resolve()));
  stream.pause();
}
