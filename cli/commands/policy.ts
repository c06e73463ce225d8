import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { Argument, Option, type Command } from 'commander';
import { PicketError } from '../../shared/errors/errors.ts';
import {
  policyActivated,
  policyAnswer,
  policyContent,
  policyPage,
  policyPublished,
  type PolicyAnswer,
} from '../../shared/protocol/operator.ts';
import { wholeNumber } from '../duration-option.ts';
import { collect, withExamples } from '../example.ts';
import { fields, table } from '../output.ts';
import { openSession } from '../session.ts';

/** The most that a folder of policies may hold; the server has its own limits. */
const MAX_FILES = 1000;
const MAX_BYTES = 8 * 1024 * 1024;

/** `picket policy`: publish, roll back, ask. */
export function registerPolicy(program: Command): void {
  const policy = program
    .command('policy')
    .description('policies: publish, list, roll back, ask what would be decided');
  withExamples(
    policy
      .command('publish <path>')
      .description('check a Rego file or folder, sign it and put it in force; a bad one changes nothing')
      .option('-m, --message <text>', 'why, for the list of versions')
      .addOption(targetOption())
      .addOption(
        new Option('--rego-version <n>', 'Rego version of the files: 1, or 0 for older ones').choices([
          '0',
          '1',
        ]),
      )
      .action(publish),
    'picket policy publish ./policies -m "invoices may be read by the shop"',
  );
  withExamples(
    policy.command('list').description('versions, newest first').addOption(targetOption()).action(list),
    'picket policy list',
  );
  withExamples(
    policy
      .command('show')
      .description('the files of a version')
      .addArgument(versionArgument())
      .addOption(targetOption())
      .action(show),
    'picket policy show 3',
  );
  withExamples(
    policy
      .command('rollback')
      .description('put an older version’s content in force again, under a new sequence')
      .addArgument(versionArgument())
      .addOption(targetOption())
      .action(rollback),
    'picket policy rollback 3',
  );
  withExamples(
    policy
      .command('evaluate')
      .description('what would be decided, by which rules; nothing is sent')
      .option('--caller <id>', 'SPIFFE ID of the caller; without it an unidentified one')
      .option(
        '--target-id <id>',
        'SPIFFE ID of the called workload; without it a destination outside of the mesh',
      )
      .option('--domain <name>', 'DNS name of a destination outside of the mesh')
      .option('--tls', 'the connection asks for --domain by TLS; nothing of it is read')
      .addOption(
        new Option('--protocol <protocol>', 'udp: a flow of datagrams out of the mesh').choices(['udp']),
      )
      .option('--target-address <address>', 'IP address of the destination')
      .option('--target-port <port>', 'port of the destination; default 443', wholeNumber)
      .addOption(
        new Option('--direction <direction>', 'whose rule: allow (inbound) or egress (outbound)')
          .choices(['inbound', 'outbound'])
          .default('inbound'),
      )
      .option('--method <method>', 'HTTP method; without it a plain connection')
      .option('--path <path>', 'HTTP path with query (default: /)')
      .option('--header <name:value>', 'HTTP header (repeatable)', collect)
      .option('--source <address>', 'IP address of the caller’s host')
      .option('--at <time>', 'when it would happen (RFC 3339); default now')
      .option('--in-network <name>', 'a named network that the caller is in (repeatable)', collect)
      .option('--outside-network <name>', 'a named network that it is not in (repeatable)', collect)
      .option(
        '--user <claims>',
        'claims of a verified user token, JSON: \'{"sub":"alice","groups":["ops"]}\'',
      )
      .option('--user-issuer <name>', 'configured name of its issuer')
      .option('--policy-version <n>', 'version to ask; default the one in force', wholeNumber)
      .action(evaluate),
    'picket policy evaluate --direction outbound --caller spiffe://example.org/ns/shop/sa/web --domain api.partner.example --tls',
    'picket policy evaluate --direction outbound --caller spiffe://example.org/ns/shop/sa/web --protocol udp --target-address 192.0.2.123 --target-port 123',
    'picket policy evaluate --caller spiffe://example.org/ns/shop/sa/web --target-id spiffe://example.org/ns/shop/sa/invoices --method GET --path /invoices',
  );
}

function versionArgument(): Argument {
  return new Argument('<version>', 'number of a version, as picket policy list shows it').argParser(
    wholeNumber,
  );
}

function targetOption(): Option {
  return new Option('--target <target>', 'whose policy').choices(['mesh', 'admin']).default('mesh');
}

interface TargetOption {
  readonly target: string;
}

async function publish(
  path: string,
  options: TargetOption & { readonly message?: string; readonly regoVersion?: '0' | '1' },
  command: Command,
): Promise<void> {
  const { client, output } = openSession(command);
  const files = readPolicyFiles(path);
  output.note(
    `Publishing ${Object.keys(files).length} file(s): checked, tested and compiled before anything changes …`,
  );
  const body = {
    files,
    message: options.message ?? '',
    ...(options.regoVersion === undefined ? {} : { rego_version: Number(options.regoVersion) }),
  };
  const published = await client.post(
    `/policies?target=${encodeURIComponent(options.target)}`,
    policyPublished,
    body,
  );
  output.result(
    published,
    (p) =>
      `Version ${p.version} is in force (sequence ${p.sequence}, ${p.digest.slice(0, 12)}); ${p.testCount} of its own tests passed`,
  );
  for (const warning of published.warnings) output.note(`warning: ${warning}`);
}

async function list(options: TargetOption, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  output.result(await client.getAll('/policies', policyPage, { target: options.target }), ({ items }) =>
    table(
      items,
      [
        { title: 'version', of: (p) => String(p.version) },
        {
          title: 'state',
          of: (p) => (p.activeSequence === null ? '' : `in force (sequence ${p.activeSequence})`),
        },
        { title: 'created', of: (p) => p.createdAt },
        { title: 'by', of: (p) => p.createdBy },
        { title: 'digest', of: (p) => p.digest.slice(0, 12) },
        { title: 'message', of: (p) => p.message },
      ],
      'No policy was published yet: everything is denied.',
    ),
  );
}

async function show(version: number, options: TargetOption, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  const content = await client.get(`/policies/${version}`, policyContent, {
    target: options.target,
  });
  output.result(content, ({ files }) =>
    Object.entries(files)
      .map(([name, text]) => `# ${name}\n${text.trimEnd()}\n`)
      .join('\n'),
  );
}

async function rollback(version: number, options: TargetOption, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  const body = { version, target: options.target };
  output.result(
    await client.post('/policies/rollback', policyActivated, body),
    (p) => `Version ${p.version} is in force again (sequence ${p.sequence})`,
  );
}

async function evaluate(
  options: {
    readonly caller?: string;
    readonly targetId?: string;
    readonly domain?: string;
    readonly tls?: boolean;
    readonly protocol?: 'udp';
    readonly targetAddress?: string;
    readonly targetPort?: number;
    readonly direction: 'inbound' | 'outbound';
    readonly method?: string;
    readonly path?: string;
    readonly header?: readonly string[];
    readonly policyVersion?: number;
    readonly source?: string;
    readonly at?: string;
    readonly inNetwork?: readonly string[];
    readonly outsideNetwork?: readonly string[];
    readonly user?: string;
    readonly userIssuer?: string;
  },
  command: Command,
): Promise<void> {
  requireNothingIdle(options);
  const { client, output } = openSession(command);
  const { source: sourceAddress, at, inNetwork, outsideNetwork, user, userIssuer } = options;
  const { protocol, targetAddress, targetPort } = options;
  const question = {
    caller: options.caller ?? '',
    target: options.targetId ?? '',
    domain: options.domain ?? '',
    direction: options.direction,
    ...(options.tls === true ? { serverName: options.domain ?? '' } : {}),
    path: options.path ?? '/',
    headers: Object.fromEntries((options.header ?? []).map(parseHeader)),
    ...(options.method === undefined ? {} : { method: options.method }),
    ...(options.policyVersion === undefined ? {} : { version: options.policyVersion }),
    // JSON leaves out what is undefined.
    protocol,
    targetAddress,
    targetPort,
    sourceAddress,
    at,
    inNetworks: inNetwork,
    outsideNetworks: outsideNetwork,
    userClaims: user,
    userIssuer,
  };
  const answer = await client.post('/policies/evaluate', policyAnswer, question);
  output.result(answer, renderAnswer);
}

/** What would be passed over is refused: the answer would be to another question. Throws `invalid_argument`, reason `option_idle`. */
function requireNothingIdle(options: {
  readonly domain?: string;
  readonly tls?: boolean;
  readonly method?: string;
  readonly path?: string;
  readonly header?: readonly string[];
  readonly user?: string;
  readonly userIssuer?: string;
}): void {
  const { domain, tls, method, path, header, user, userIssuer } = options;
  const refuse = (option: string, needed: string): PicketError =>
    new PicketError('invalid_argument', 'option_idle', `${option} means nothing without ${needed}`);
  if (path !== undefined && method === undefined) throw refuse('--path', '--method');
  if (header !== undefined && method === undefined) throw refuse('--header', '--method');
  if (tls === true && domain === undefined) throw refuse('--tls', '--domain');
  if (userIssuer !== undefined && user === undefined) throw refuse('--user-issuer', '--user');
}

function renderAnswer(answer: PolicyAnswer): string {
  const head = fields([
    ['decision', answer.decision],
    ['reason', `${answer.reason}: ${answer.message}`],
    ['version', answer.version === null ? 'none in force' : String(answer.version)],
    ...(answer.via === undefined ? [] : [['via', answer.via] as const]),
    ...(answer.serverCertificate === undefined
      ? []
      : [['server must prove', renderCertificate(answer.serverCertificate)] as const]),
    ...(answer.inspect === undefined
      ? []
      : [['TLS', 'is inspected, each request within is decided'] as const]),
  ]);
  const rules = answer.rules.map((r) => `  ${r.rule} (${r.file}:${r.line})`);
  return rules.length === 0 ? `${head}\nno rule fired` : `${head}\nrules that fired:\n${rules.join('\n')}`;
}

function renderCertificate({
  spkiSha256 = [],
  authority,
}: NonNullable<PolicyAnswer['serverCertificate']>): string {
  const facts = [
    ...(spkiSha256.length === 0 ? [] : [`a key with SPKI SHA-256 ${spkiSha256.join(' or ')}`]),
    ...(authority === undefined ? [] : [`a certificate of the authority "${authority}"`]),
  ];
  return facts.join(', and ');
}

function parseHeader(text: string): readonly [string, string] {
  const colon = text.indexOf(':');
  if (colon < 1)
    throw new PicketError(
      'invalid_argument',
      'header_invalid',
      `Cannot read --header "${text}": expected NAME:VALUE`,
    );
  return [text.slice(0, colon).toLowerCase(), text.slice(colon + 1).trim()];
}

/** A file by its name, or every .rego and .json below a folder by its path in it. Links are refused: they might lead out of the folder. */
function readPolicyFiles(path: string): Readonly<Record<string, string>> {
  const files: Record<string, string> = {};
  let bytes = 0;
  const visit = (file: string, name: string): void => {
    const stat = lstatSync(file, { throwIfNoEntry: false });
    if (stat === undefined)
      throw new PicketError('not_found', 'file_missing', `There is no file or folder ${file}`);
    if (stat.isSymbolicLink())
      throw new PicketError(
        'invalid_argument',
        'link_refused',
        `${file} is a symbolic link; name the file itself`,
      );
    if (stat.isDirectory()) {
      for (const child of readdirSync(file).toSorted())
        visit(join(file, child), relative(path, join(file, child)));
      return;
    }
    if (!/\.(rego|json)$|^\.manifest$/.test(name)) return;
    bytes += stat.size;
    if (bytes > MAX_BYTES)
      throw new PicketError(
        'invalid_argument',
        'too_big',
        `${path} holds more than ${MAX_BYTES} bytes of policy`,
      );
    files[name] = readFileSync(file, 'utf8');
    if (Object.keys(files).length > MAX_FILES)
      throw new PicketError(
        'invalid_argument',
        'too_many_files',
        `${path} holds more than ${MAX_FILES} files`,
      );
  };
  visit(path, path.split('/').at(-1) ?? path);
  if (Object.keys(files).length === 0)
    throw new PicketError('invalid_argument', 'no_policy', `${path} holds no .rego file`);
  return files;
}
