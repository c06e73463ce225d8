import { sealedStoreContract } from './contract.ts';
import { MemoryStore } from './memory.ts';

sealedStoreContract('memory', async () => new MemoryStore());
