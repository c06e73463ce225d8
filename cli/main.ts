// First of all: in the bundled executable, @peculiar/x509 would otherwise be loaded before what it asks for.
import 'reflect-metadata';
import { Command, CommanderError, Option } from 'commander';
import { ERROR_CODES, describeError, type PicketError, toPicketError } from '../shared/errors/errors.ts';
import type { AgentParts, StartAgent } from './commands/agent.ts';
import type { OpenInstruments } from './commands/doctor.ts';
import { addExamplesOfGroups } from './example.ts';
import { printable } from './output.ts';
import { DEFAULT_SERVER_SOCKET } from './session.ts';
import { VERSION } from './version.ts';

const EXIT_USAGE = 2;
/** Behind the executable and its program. */
const FIRST_WORD = 2;

type LoadCommand = () => Promise<(program: Command) => void>;

/** By their first word, in the order of the help. A role runs for months, and keeps in memory what was loaded: nothing of the other commands. */
const COMMANDS: ReadonlyMap<string, LoadCommand> = new Map<string, LoadCommand>([
  ['ca', async () => (await import('./commands/ca.ts')).registerCa],
  ['server', async () => (await import('./commands/server.ts')).registerServer],
  ['token', async () => (await import('./commands/token.ts')).registerToken],
  ['node', async () => (await import('./commands/node.ts')).registerNode],
  ['entry', async () => (await import('./commands/entry.ts')).registerEntry],
  ['service', async () => (await import('./commands/service.ts')).registerService],
  ['policy', async () => (await import('./commands/policy.ts')).registerPolicy],
  ['workload', async () => (await import('./commands/workload.ts')).registerWorkload],
  ['audit', async () => (await import('./commands/audit.ts')).registerAudit],
  ['operator', async () => (await import('./commands/operator.ts')).registerOperator],
  ['quarantine', async () => (await import('./commands/quarantine.ts')).registerQuarantine],
  ['enforcement', async () => (await import('./commands/enforcement.ts')).registerEnforcement],
  ['agent', loadAgentCommand],
  ['gateway', loadGatewayCommand],
  ['why', async () => (await import('./commands/why.ts')).registerWhy],
  ['doctor', loadDoctorCommand],
  ['completion', async () => (await import('./commands/completion.ts')).registerCompletion],
  ['version', async () => (await import('./commands/version.ts')).registerVersion],
]);

// Whoever reads ends when he has seen enough, as head does: that is no fault.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit();
});
process.exitCode = await main(withoutHelpWord(process.argv));

async function main(argv: readonly string[]): Promise<number> {
  const isJson = argv.includes('--json');
  try {
    const program = await buildProgram(argv);
    // What is wrong with the call is told as everything else is.
    if (isJson) program.configureOutput({ writeErr: () => undefined });
    inheritSettings(program);
    await program.parseAsync([...argv]);
    return typeof process.exitCode === 'number' ? process.exitCode : 0;
  } catch (error) {
    return report(error, isJson);
  }
}

async function buildProgram(argv: readonly string[]): Promise<Command> {
  const program = new Command('picket')
    .description('Zero-trust mesh: workload identities, mutual TLS and a policy decision for every request.')
    .version(VERSION, '--version', 'print the version; `picket version` tells more')
    .addOption(new Option('--json', 'print results and errors as JSON'))
    .addOption(
      new Option(
        '--socket <path>',
        `unix socket of the server on this host (default ${DEFAULT_SERVER_SOCKET})`,
      ).env('PICKET_SOCKET'),
    )
    .addOption(
      new Option('--server <url>', "operators' address of a server, https://HOST:8444").env('PICKET_SERVER'),
    )
    .addOption(new Option('--cert <file>', 'client certificate (PEM) for --server').env('PICKET_CERT'))
    .addOption(new Option('--key <file>', 'private key (PEM) for --server').env('PICKET_KEY'))
    .addOption(new Option('--ca <file>', 'trust bundle (PEM) that verifies --server').env('PICKET_CA'))
    .exitOverride()
    .showSuggestionAfterError()
    .configureHelp({ showGlobalOptions: true });
  for (const load of wantedCommands(argv)) (await load())(program);
  addExamplesOfGroups(program);
  return program;
}

/** `picket help entry create` is `picket entry create --help`. The library itself knows one word behind `help` alone. */
function withoutHelpWord(argv: readonly string[]): readonly string[] {
  const [executable = '', program = '', first, ...path] = argv;
  return first === 'help' && path.length > 1 ? [executable, program, ...path, '--help'] : argv;
}

/** One command of those that were named, or all: for help, for a mistake, for options before the command, and for what asks about all. */
function wantedCommands(argv: readonly string[]): Iterable<LoadCommand> {
  const name = argv[FIRST_WORD] ?? '';
  const wanted = name === 'completion' ? undefined : COMMANDS.get(name);
  return wanted === undefined ? COMMANDS.values() : [wanted];
}

/** A role is loaded when it is asked for. */
async function startAgent(runtime: Parameters<StartAgent>[0]): ReturnType<StartAgent> {
  return await (await import('../agent/main.ts')).startAgent(runtime);
}

async function loadGatewayCommand(): ReturnType<LoadCommand> {
  const { registerGateway } = await import('./commands/gateway.ts');
  return (program) => registerGateway(program, startAgent);
}

async function loadAgentCommand(): ReturnType<LoadCommand> {
  const { registerAgent } = await import('./commands/agent.ts');
  const parts: AgentParts = {
    runWorker: async (runtime) => await (await import('../agent/workers/main.ts')).runWorker(runtime),
    startAgent,
    openCapture: async ({ rulesFile, ...choice }) => {
      const { openCapture } = await import('../agent/capture/open-capture.ts');
      return openCapture({ ...choice, ...(await hostOfCapture()), nft: { rulesFile } }).capture;
    },
    removeFromNamespaces: async (namespaces) =>
      await (await import('../agent/capture/open-capture.ts')).removeFromNamespaces(namespaces),
  };
  return (program) => registerAgent(program, parts);
}

async function hostOfCapture(): Promise<{
  readonly ownerUid: number;
  readonly ownAddresses: () => readonly string[];
}> {
  const { listOwnAddresses } = await import('../agent/directory/own-addresses.ts');
  return { ownerUid: process.geteuid?.() ?? 0, ownAddresses: listOwnAddresses };
}

async function loadDoctorCommand(): ReturnType<LoadCommand> {
  const { registerDoctor } = await import('./commands/doctor.ts');
  const openInstruments: OpenInstruments = async () => {
    const { probeCapture } = await import('../agent/capture/open-capture.ts');
    const { findTcpListeners } = await import('../agent/native/sock-diag.ts');
    const host = await hostOfCapture();
    return {
      probeCapture: (keeping) => probeCapture({ ...keeping, ...host }),
      diagnoseSockets: () => void findTcpListeners(1),
    };
  };
  return (program) => registerDoctor(program, openInstruments);
}

/** Sub-commands throw instead of ending the process, too. */
function inheritSettings(command: Command): void {
  for (const child of command.commands) {
    child.copyInheritedSettings(command);
    inheritSettings(child);
  }
}

function report(error: unknown, isJson: boolean): number {
  if (error instanceof CommanderError) return reportUsage(error, isJson);
  const picketError = toPicketError(error);
  const { code, reason, message, details } = picketError;
  if (isJson) process.stderr.write(`${JSON.stringify({ error: { code, reason, message, details } })}\n`);
  else process.stderr.write(`error: ${printable(message)}\n${detailLines(picketError)}`);
  if (process.env['PICKET_DEBUG'] !== undefined || reason === 'unexpected')
    process.stderr.write(`${describeError(picketError)}\n`);
  return ERROR_CODES[code].exitCode;
}

/** What is wrong with the call itself. For people it stands on standard error already. */
function reportUsage({ exitCode, code, message }: CommanderError, isJson: boolean): number {
  if (exitCode === 0) return 0;
  const told =
    code === 'commander.help' ? 'A command is missing: see --help' : message.replace(/^error: /, '');
  if (isJson)
    process.stderr.write(
      `${JSON.stringify({ error: { code: 'invalid_argument', reason: 'usage', message: told } })}\n`,
    );
  return EXIT_USAGE;
}

/** File, line and reason of a refused policy, or what is wrong with each setting, one a line. */
function detailLines(error: PicketError): string {
  const faults = error.details?.['faults'];
  if (!Array.isArray(faults)) return '';
  const lines = (
    faults as readonly { readonly file?: string; readonly line?: number; readonly message?: string }[]
  ).map(({ file, line, message = '' }) => {
    const place = [file, line].filter((part) => part !== undefined).join(':');
    return `  ${printable(place === '' ? message : `${place}: ${message}`)}\n`;
  });
  return lines.join('');
}
