import type { Command } from 'commander';
import type { z } from 'zod';
import { node, nodePage, tpmHost, tpmHostPage } from '../../shared/protocol/operator.ts';
import { place } from '../../shared/protocol/service.ts';
import { PicketError } from '../../shared/errors/errors.ts';
import { collect, withExamples } from '../example.ts';
import { fields, table } from '../output.ts';
import { openSession } from '../session.ts';

type Node = z.output<typeof node>;
type TpmHost = z.output<typeof tpmHost>;

/** `picket node`: attested hosts, their addresses, and the TPMs that may attest. */
export function registerNode(program: Command): void {
  const nodes = program
    .command('node')
    .description('hosts: who attested, how, with which addresses; which TPMs may');
  withExamples(nodes.command('list').description('attested hosts').action(list), 'picket node list');
  withExamples(
    nodes.command('show <node-id>').description('one host').action(show),
    'picket node show spiffe://example.org/picket/agent/tpm/web-1',
  );
  withExamples(
    nodes
      .command('ban <node-id>')
      .description('refuse the host from now on; its identities are not renewed')
      .action(ban),
    'picket node ban spiffe://example.org/picket/agent/tpm/web-1',
  );
  withExamples(
    nodes
      .command('evict <node-id>')
      .description('forget the host: a re-imaged one can then attest anew')
      .action(evict),
    'picket node evict spiffe://example.org/picket/agent/join_token/web-1',
  );
  registerAddress(nodes);
  registerPlace(nodes);
  registerTpm(nodes);
}

function registerAddress(nodes: Command): void {
  const address = nodes
    .command('address')
    .description('which addresses are a host’s; only confirmed ones reach the directory');
  withExamples(
    address
      .command('add <node-id> <ip>')
      .description('declare an address, or confirm a pending claim')
      .action(addAddress),
    'picket node address add spiffe://example.org/picket/agent/tpm/web-1 10.0.0.5',
  );
  withExamples(
    address.command('remove <node-id> <ip>').description('withdraw an address').action(removeAddress),
    'picket node address remove spiffe://example.org/picket/agent/tpm/web-1 10.0.0.5',
  );
}

function registerPlace(nodes: Command): void {
  const place = nodes
    .command('place')
    .description('where hosts are, so that calls to a service go to the nearest of its members');
  withExamples(
    place
      .command('set <node-id> <place>')
      .description('declare where a host is, REGION or REGION/ZONE; it need not have attested yet')
      .action(setPlace),
    'picket node place set spiffe://example.org/picket/agent/tpm/web-1 eu-west/a',
  );
  withExamples(
    place.command('clear <node-id>').description('forget where a host is').action(clearPlace),
    'picket node place clear spiffe://example.org/picket/agent/tpm/web-1',
  );
}

function registerTpm(nodes: Command): void {
  const tpm = nodes.command('tpm').description('TPM hosts by the hash of their endorsement key');
  withExamples(
    tpm.command('list').description('TPMs that were seen or approved').action(listTpm),
    'picket node tpm list',
  );
  withExamples(
    tpm
      .command('approve <ek-hash>')
      .description('let the TPM attest')
      .option('--name <node>', 'name of the host in its SPIFFE ID (default: the hash)')
      .option('--address <ip>', 'address that is declared to be this host (repeatable)', collect)
      .option('--pcr <n=sha256>', 'accepted value of a PCR (repeatable)', collect)
      .action(approveTpm),
    'picket node tpm approve 2c26b4… --name web-1 --address 10.0.0.5',
    'picket node tpm approve 2c26b4… --pcr 0=3d458c… --pcr 7=65caf8…',
  );
  withExamples(
    tpm.command('deny <ek-hash>').description('refuse the TPM').action(denyTpm),
    'picket node tpm deny 2c26b4…',
  );
}

async function list(_options: unknown, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  output.result(await client.getAll('/nodes', nodePage), ({ items }) =>
    table(
      items,
      [
        { title: 'node', of: (n) => n.nodeId },
        { title: 'state', of: (n) => (n.isBanned ? 'banned' : 'attested') },
        { title: 'addresses', of: (n) => addressesOf(n) },
        { title: 'svid ends', of: (n) => n.expiry },
        { title: 'last seen', of: (n) => n.lastSeenAt },
      ],
      'No host has attested yet.',
    ),
  );
}

async function show(nodeId: string, _options: unknown, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  output.result(await client.get(`/nodes/${encodeURIComponent(nodeId)}`, node), renderNode);
}

async function ban(nodeId: string, _options: unknown, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  output.result(
    await client.post(`/nodes/${encodeURIComponent(nodeId)}/ban`, node, undefined),
    (n) => `Banned ${n.nodeId}`,
  );
}

async function evict(nodeId: string, _options: unknown, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  await client.delete(`/nodes/${encodeURIComponent(nodeId)}`);
  output.result({ evicted: nodeId }, () => `Evicted ${nodeId}`);
}

async function addAddress(
  nodeId: string,
  address: string,
  _options: unknown,
  command: Command,
): Promise<void> {
  const { client, output } = openSession(command);
  output.result(await client.put(addressPath(nodeId, address), node, undefined), renderNode);
}

async function removeAddress(
  nodeId: string,
  address: string,
  _options: unknown,
  command: Command,
): Promise<void> {
  const { client, output } = openSession(command);
  await client.delete(addressPath(nodeId, address));
  output.result({ removed: address }, () => `Removed ${address} from ${nodeId}`);
}

async function setPlace(
  nodeId: string,
  locality: string,
  _options: unknown,
  command: Command,
): Promise<void> {
  const { client, output } = openSession(command);
  output.result(
    await client.put(placePath(nodeId), place, { locality }),
    (made) => `${made.nodeId} is in ${made.locality}`,
  );
}

async function clearPlace(nodeId: string, _options: unknown, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  await client.delete(placePath(nodeId));
  output.result({ cleared: nodeId }, () => `Forgot where ${nodeId} is`);
}

async function listTpm(_options: unknown, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  output.result(await client.get('/tpm-hosts', tpmHostPage), ({ items }) =>
    table(
      items,
      [
        { title: 'ek hash', of: (t) => t.ekHash },
        { title: 'state', of: (t) => t.state },
        { title: 'agent', of: (t) => t.agentId },
        { title: 'genuine', of: (t) => (t.hasTrustedCertificate ? 'yes' : 'not proven') },
        { title: 'pcrs', of: (t) => Object.keys(t.expectedPcrs).join(',') || '-' },
      ],
      'No TPM was seen or approved yet.',
    ),
  );
}

async function approveTpm(
  ekHash: string,
  options: { readonly name?: string; readonly address?: readonly string[]; readonly pcr?: readonly string[] },
  command: Command,
): Promise<void> {
  const { client, output } = openSession(command);
  const body = {
    state: 'approved',
    name: options.name ?? '',
    addresses: options.address ?? [],
    expectedPcrs: parsePcrs(options.pcr ?? []),
  };
  output.result(await client.put(`/tpm-hosts/${encodeURIComponent(ekHash)}`, tpmHost, body), renderTpm);
}

async function denyTpm(ekHash: string, _options: unknown, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  output.result(
    await client.put(`/tpm-hosts/${encodeURIComponent(ekHash)}`, tpmHost, { state: 'denied' }),
    renderTpm,
  );
}

function parsePcrs(values: readonly string[]): Readonly<Record<string, readonly string[]>> {
  const pcrs: Record<string, string[]> = {};
  for (const value of values) {
    const match = /^(\d{1,2})=([0-9a-fA-F]{64})$/.exec(value);
    const [number, hash] = [match?.[1], match?.[2]];
    if (number === undefined || hash === undefined) {
      throw new PicketError(
        'invalid_argument',
        'pcr_invalid',
        `Cannot read --pcr "${value}": expected NUMBER=SHA256, 64 hexadecimal digits`,
      );
    }
    (pcrs[number] ??= []).push(hash.toLowerCase());
  }
  return pcrs;
}

function addressPath(nodeId: string, address: string): string {
  return `/nodes/${encodeURIComponent(nodeId)}/addresses/${encodeURIComponent(address)}`;
}

function placePath(nodeId: string): string {
  return `/nodes/${encodeURIComponent(nodeId)}/place`;
}

function addressesOf(n: Node): string {
  return (
    n.addresses.map((a) => (a.state === 'confirmed' ? a.address : `${a.address} (pending)`)).join(', ') || '-'
  );
}

function renderNode(n: Node): string {
  return fields([
    ['node', n.nodeId],
    ['attestation', `${n.attestationType}, ${n.attestedAt}`],
    ['state', n.isBanned ? 'banned' : 'attested'],
    ['addresses', addressesOf(n)],
    ['place', n.locality ?? '-'],
    ['svid serial', n.certSerial],
    ['svid ends', n.expiry],
    ['last seen', n.lastSeenAt],
    ['agent version', n.agentVersion || '-'],
    ['selectors', n.selectors.join(' ') || '-'],
  ]);
}

function renderTpm(t: TpmHost): string {
  return fields([
    ['ek hash', t.ekHash],
    ['state', t.state],
    ['agent id', t.agentId],
    [
      'genuine',
      t.hasTrustedCertificate ? 'its certificate chains to a configured manufacturer' : 'not proven',
    ],
    ['addresses', t.addresses.join(', ') || '-'],
  ]);
}
