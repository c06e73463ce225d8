import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from 'bun:test';
import { existsSync, mkdirSync, readdirSync, rmdirSync, statSync, symlinkSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { compute, exit, assemble } from '../native/bpf-instructions.ts';
import { linkCgroup, openPinned, readCgroupLink } from '../native/bpf-link.ts';
import { readMapId } from '../native/bpf-map.ts';
import { loadProgram } from '../native/bpf.ts';
import { openCgroup } from '../native/cgroup.ts';
import { Descriptors } from '../native/descriptors.ts';
import { run, type Child } from '../../tests/kit/child.ts';
import type { TestHost } from '../../tests/kit/netns.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import type { EbpfHost } from './fixtures/ebpf-host.ts';
import {
  ask,
  asUser,
  createCapturedNetwork,
  fetchPage,
  NOBODY,
  Pipe,
  STRICT,
  waitForListener,
  type CapturedNetwork,
} from './fixtures/captured-network.ts';

setDefaultTimeout(60_000);

/** What somebody on the host may try against capture by eBPF. Where the programs do not see a connection, the guard of the rules does. */

let net: CapturedNetwork;
let ebpf: EbpfHost;
let here: TestHost;
let outside: TestHost;
let agent: Child;
let url: string;
const REFUSED = { status: 0, exitCode: 7 };

beforeAll(async () => {
  net = await createCapturedNetwork('ebpf');
  ({ captured: here, outside } = net);
  if (net.ebpf === undefined) throw new TypeError('It is captured by eBPF');
  ebpf = net.ebpf;
  url = `http://${outside.ipv4}:80/`;
  agent = await net.startAgent();
});
beforeEach(async () => await net.capture.apply(STRICT));
afterEach(async () => await net.capture.remove());
afterAll(() => net.remove());

/** The host as a program of another cgroup sees it. */
function fromCgroup(path: string): TestHost {
  const bare = net.inside;
  const enter = 'echo $$ >"$0/cgroup.procs" && exec "$@"';
  return { ...bare, in: (...command) => ['sh', '-c', enter, path, ...bare.in(...command)] };
}

describe('a connection that the programs do not see', () => {
  test('is refused where it comes from outside of the cgroup', async () => {
    const before = await net.requestsOutside();
    expect(await fetchPage(net.inside, url)).toEqual(REFUSED);
    expect(await fetchPage(net.inside, `http://[${outside.ipv6}]:80/`)).toEqual(REFUSED);
    expect(await net.requestsOutside()).toBe(before);
  });

  test('does not reach the agent as if it were another’s: without a record it goes nowhere', async () => {
    expect((await ask(net.inside, '127.0.0.1', 15_001)).text).toBe('outbound nowhere from nowhere \n');
  });

  test('is cut where it is older than the programs', async () => {
    await net.capture.remove();
    const server = new Pipe(outside.in('nc', '-l', '-k', '0.0.0.0', '9001'));
    await waitForListener(outside, 9001);
    const client = new Pipe(here.in('nc', outside.ipv4, '9001'));
    client.say('before\n');
    await server.hears('before');
    await net.capture.apply(STRICT);
    client.say('after\n');
    await client.ends();
    expect(server.heard).toBe('before\n');
    await server.stop();
  });

  test('is captured where its socket was made before and connects after', async () => {
    await net.capture.remove();
    const program = [
      'use Socket; $| = 1; socket(my $s, AF_INET, SOCK_STREAM, 0) or die; print "made\\n"; my $go = <STDIN>;',
      `if (connect($s, pack_sockaddr_in(80, inet_aton("${outside.ipv4}")))) { syswrite $s, "hello\\n"; sysread $s, my $a, 200; print $a }`,
    ].join('\n');
    const client = new Pipe(here.in('perl', '-e', program));
    await client.hears('made');
    await net.capture.apply(STRICT);
    client.say('go\n');
    await client.hears(`outbound ${outside.ipv4} 80`);
    await client.stop();
  });
});

describe('a cgroup below', () => {
  const below = (): string => join(ebpf.cgroup, 'below');
  beforeEach(() => mkdirSync(below()));
  // Until the last of its processes is gone for good, it is busy.
  afterEach(async () => {
    await waitUntil('the cgroup can be removed', () => {
      rmdirSync(below());
      return true;
    });
  });

  test('is captured, also where a program of its own lets everything pass', async () => {
    using opened = new Descriptors();
    const INET4_CONNECT = 10;
    const kind = { name: 'pk_test', type: 18, attachType: INET4_CONNECT };
    const program = opened.add(loadProgram(assemble([compute(0, '=', 1), exit()]), kind));
    opened.add(linkCgroup(program, opened.add(openCgroup(below())), INET4_CONNECT));
    expect((await ask(fromCgroup(below()), outside.ipv4, 80)).text).toStartWith(
      `outbound ${outside.ipv4} 80`,
    );
  });

  test('keeps a socket captured whose program moved out of it', async () => {
    const program = [
      'use Socket; socket(my $s, AF_INET, SOCK_STREAM, 0) or die;',
      `open(my $f, ">", "${join(ebpf.cgroup, '..', 'cgroup.procs')}") or die "$!"; syswrite($f, "$$\\n") or die "$!";`,
      `connect($s, pack_sockaddr_in(80, inet_aton("${outside.ipv4}"))) or die "$!"; syswrite $s, "hello\\n"; sysread $s, my $a, 200; print $a`,
    ].join('\n');
    const { stdout } = await run(fromCgroup(below()).in('timeout', '5', 'perl', '-e', program));
    expect(stdout).toStartWith(`outbound ${outside.ipv4} 80`);
  });
});

describe('what is pinned', () => {
  test('is for root alone, and no user can open, replace or remove it', async () => {
    const { mode, uid } = statSync(ebpf.bpfFolder);
    expect([mode & 0o777, uid]).toEqual([0o700, 0]);
    const names = readdirSync(ebpf.bpfFolder);
    expect(names.length).toBeGreaterThan(8);
    for (const command of [
      ['ls', ebpf.bpfFolder],
      ['rm', '-f', join(ebpf.bpfFolder, 'connect4')],
      ['mv', ebpf.bpfFolder, `${ebpf.bpfFolder}2`],
    ]) {
      const { exitCode } = await run(here.in(...asUser(NOBODY, command)));
      expect(exitCode).not.toBe(0);
    }
    expect(await net.capture.isIntact()).toBe(true);
  });

  test('cannot be opened by its number either, except by root', async () => {
    using opened = new Descriptors();
    const [records, link] = ['records', 'connect4'].map((name) => openPinned(join(ebpf.bpfFolder, name)));
    if (records === undefined || link === undefined) throw new TypeError('Both are pinned');
    const ids = [readCgroupLink(opened.add(link))?.programId, readMapId(opened.add(records))];
    // bpf(2): BPF_PROG_GET_FD_BY_ID and BPF_MAP_GET_FD_BY_ID.
    const number = process.arch === 'arm64' ? 280 : 321;
    const program = [
      `my ($program, $map) = (pack("L4", ${ids[0]}, 0, 0, 0), pack("L4", ${ids[1]}, 0, 0, 0));`,
      `print syscall(${number}, 13, $program, 16) < 0 ? "$!, " : "opened, ", syscall(${number}, 14, $map, 16) < 0 ? "$!" : "opened";`,
    ].join('\n');
    expect(await here.runOk('perl', '-e', program)).toBe('opened, opened');
    const { stdout } = await run(here.in(...asUser(NOBODY, ['perl', '-e', program])));
    expect(stdout).toBe('Operation not permitted, Operation not permitted');
  });

  test('is refused in a folder that somebody else made before', async () => {
    await net.capture.remove();
    mkdirSync(ebpf.bpfFolder, { mode: 0o777 });
    try {
      expect(await refusalOf(net.capture.apply(STRICT))).toMatchObject({ reason: 'bpf_folder' });
      expect(await net.capture.isIntact()).toBe(false);
    } finally {
      rmdirSync(ebpf.bpfFolder);
    }
  });

  test('is refused where somebody else’s name leads to a folder of ours', async () => {
    await net.capture.remove();
    const other = `${ebpf.bpfFolder}_other`;
    mkdirSync(other, { mode: 0o700 });
    symlinkSync(other, ebpf.bpfFolder);
    try {
      expect(await refusalOf(net.capture.apply(STRICT))).toMatchObject({ reason: 'bpf_folder' });
      expect(readdirSync(other)).toEqual([]);
    } finally {
      unlinkSync(ebpf.bpfFolder);
      for (const name of readdirSync(other)) unlinkSync(join(other, name));
      rmdirSync(other);
    }
  });

  test('is nowhere but in a BPF file system, and attached to nothing but a cgroup of version 2', async () => {
    const folder = join(net.folder, 'picket');
    const elsewhere = ebpf.open({ folder }).capture;
    expect(await refusalOf(elsewhere.apply(STRICT))).toMatchObject({
      code: 'failed_precondition',
      reason: 'bpf_folder',
    });
    const nowhere = ebpf.open({ cgroup: net.folder }).capture;
    expect(await refusalOf(nowhere.apply(STRICT))).toMatchObject({
      code: 'failed_precondition',
      reason: 'cgroup_missing',
    });
  });

  test('is missed when it is gone, refused meanwhile, and put back', async () => {
    await run(['rm', join(ebpf.bpfFolder, 'connect4')]);
    expect(await net.capture.isIntact()).toBe(false);
    expect(await net.capture.show()).toContain('connect4: MISSING');
    expect(await fetchPage(here, url)).toEqual(REFUSED);
    await net.capture.apply(STRICT);
    expect(await net.capture.isIntact()).toBe(true);
    expect((await ask(here, outside.ipv4, 80)).text).toStartWith(`outbound ${outside.ipv4} 80`);
  });
});

describe('the records of connections', () => {
  test('that are pushed out by newer ones are a refusal, never another’s', async () => {
    await net.capture.remove();
    const { capture, steering } = ebpf.open({ maxRecords: 64 });
    await capture.apply(STRICT);
    // Each holds its socket and says nothing until all are connected.
    const program = [
      'use Socket; my @s; for my $i (0 .. 299) { socket($s[$i], AF_INET, SOCK_STREAM, 0) or die "$!";',
      `connect($s[$i], pack_sockaddr_in(1000 + $i, inet_aton("${outside.ipv4}"))) or die "$!"; }`,
      'for my $i (0 .. 299) { syswrite $s[$i], "hello\\n"; sysread $s[$i], my $a, 200; print 1000 + $i, ": $a"; }',
    ].join('\n');
    const answers = (await here.runOk('timeout', '20', 'perl', '-e', program)).trim().split('\n');
    expect(answers.length).toBe(300);
    const lost = answers.filter((answer) => answer.endsWith('outbound nowhere from nowhere '));
    const wrong = answers.filter((answer) => {
      const [, port, found] = /^(\d+): outbound (?:\S+ (\d+)|nowhere) /.exec(answer) ?? [];
      return found !== undefined && found !== port;
    });
    expect(wrong).toEqual([]);
    expect(lost.length).toBeGreaterThan(0);
    expect(lost.length).toBeLessThan(300);
    steering.close();
  });

  test('go with their sockets', async () => {
    const { steering } = ebpf.open();
    expect(steering.countRecords()).toBe(0);
    const client = new Pipe(here.in('nc', outside.ipv4, '80'));
    client.say('hello\n');
    await client.hears('outbound');
    expect(steering.countRecords()).toBe(1);
    await client.stop();
    await waitUntil('it is forgotten', () => steering.countRecords() === 0);
    steering.close();
  });
});

describe('another network namespace', () => {
  test('is left alone by the programs, in the same cgroup as well', async () => {
    const enter = 'echo $$ >"$0/cgroup.procs" && exec "$@"';
    const other: TestHost = {
      ...outside,
      in: (...command) => ['sh', '-c', enter, ebpf.cgroup, ...outside.in(...command)],
    };
    expect((await fetchPage(other, 'http://127.0.0.1:8080/')).status).toBe(200);
  });
});

describe('with the agent dead', () => {
  test('captured connections are refused, and go on once it is back, with the programs that were there', async () => {
    const shown = await net.capture.show();
    await agent.stop('SIGKILL');
    expect(await fetchPage(here, url)).toEqual(REFUSED);
    agent = await net.startAgent();
    const { capture } = ebpf.open();
    await capture.apply(STRICT);
    expect(await capture.show()).toBe(shown);
    expect((await ask(here, outside.ipv4, 80)).text).toStartWith(`outbound ${outside.ipv4} 80`);
  });

  test('nobody gets to a service of this host by opening from the agent’s port', async () => {
    await agent.stop('SIGKILL');
    try {
      await net.capture.apply({ ...STRICT, localPorts: [9003] });
      const service = new Pipe(net.inside.in('nc', '-l', '-k', '127.0.0.1', '9003'));
      await waitForListener(net.inside, 9003);
      for (const from of ['15001', '15002'])
        await ask(net.inside, '127.0.0.1', 9003, { uid: NOBODY, flags: ['-p', from] });
      await net.capture.remove();
      await run(net.inside.in('nc', '-N', '127.0.0.1', '9003'), { stdin: 'nothing captures\n' });
      await service.hears('nothing captures');
      expect(service.heard).toBe('nothing captures\n');
      await service.stop();
    } finally {
      agent = await net.startAgent();
    }
  });

  test('nobody but the agent’s user can take its place', async () => {
    await agent.stop('SIGKILL');
    const impostor = new Pipe(here.in(...asUser(NOBODY, ['nc', '-l', '-k', '127.0.0.1', '15001'])));
    await waitForListener(here, 15_001);
    expect((await ask(here, outside.ipv4, 80, { seconds: 1 })).text).toBe('');
    expect(impostor.heard).toBe('');
    await impostor.stop();
    agent = await net.startAgent();
  });
});

describe('a change of backends', () => {
  test('leaves nothing of the other one, and lets nothing pass in between', async () => {
    const nft = ebpf.openNft();
    await nft.apply(STRICT);
    expect(await nft.isIntact()).toBe(true);
    expect(existsSync(ebpf.bpfFolder)).toBe(false);
    await net.capture.apply(STRICT);
    expect(await nft.isIntact()).toBe(false);
    expect(await net.capture.show()).not.toContain('steer_outbound');
    expect((await ask(here, outside.ipv4, 80)).text).toStartWith(`outbound ${outside.ipv4} 80`);
  });

  test('leaves alone what captures another network namespace', async () => {
    const nft = ebpf.openNft({ netnsCookie: () => 1n });
    await nft.apply(STRICT);
    expect(await nft.isIntact()).toBe(true);
    expect(existsSync(join(ebpf.bpfFolder, 'connect4'))).toBe(true);
    const { capture } = ebpf.open();
    await capture.apply(STRICT);
    expect(await capture.isIntact()).toBe(true);
  });

  test('leaves nothing at all when capture is removed', async () => {
    await net.capture.remove();
    expect(existsSync(ebpf.bpfFolder)).toBe(false);
    expect((await here.runOk('nft', 'list', 'ruleset')).trim()).toBe('');
    expect((await fetchPage(here, url)).status).toBe(200);
  });
});
