// Streams one answer; prints the text, then a JSON line with what came beside it.
const OpenAI = require('openai');

const openai = new OpenAI({ baseURL: 'https://sh-02.d.run/v1', apiKey: '<Your API Key here>' });

async function main() {
  const stream = await openai.chat.completions.create({
    model: 'u-8105f7322477/test',
    messages: [{ role: 'user', content: 'Say this is a test!' }],
    max_tokens: 16,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = '';
  let finish = null;
  let usage = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? '';
    finish = chunk.choices[0]?.finish_reason ?? finish;
    usage = chunk.usage ?? usage;
  }
  console.log(JSON.stringify({ text, finish, usage }));
}

main();
