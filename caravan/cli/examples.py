"""How to call a deployment: curl, Python and Node, as on the product page, with our address."""

from caravan.contracts.deployments import EMBEDDING

KEY = "<Your API Key here>"

_CURL = """\
curl '{base}/chat/completions' \\
  -H "Content-Type: application/json" \\
  -H "Authorization: Bearer {key}" \\
  -d '{{
    "model": "{model}",
    "messages": [{{"role": "user", "content": "Say this is a test!"}}],
    "temperature": 0.7
  }}'"""

_PYTHON = """\
# Compatible with OpenAI Python library v1.0.0 and above

from openai import OpenAI

client = OpenAI(
    base_url="{base}/",
    api_key="{key}"
)

messages = [
    {{"role": "user", "content": "hello!"}},
    {{"role": "user", "content": "Say this is test?"}}
]

response = client.chat.completions.create(
    model="{model}",
    messages=messages
)

content = response.choices[0].message.content

print(content)"""

_NODE = """\
const OpenAI = require('openai');

const openai = new OpenAI({{
  baseURL: '{base}',
  apiKey: '{key}',
}});

async function getData() {{
  try {{
    const chatCompletion = await openai.chat.completions.create({{
      model: '{model}',
      messages: [
        {{ role: 'user', content: 'hello!' }},
        {{ role: 'user', content: 'how are you?' }},
      ],
    }});

    console.log(chatCompletion.choices[0].message.content);
  }} catch (error) {{
    if (error instanceof OpenAI.APIError) {{
      console.error('API Error:', error.status, error.message);
      console.error('Error details:', error.error);
    }} else {{
      console.error('Unexpected error:', error);
    }}
  }}
}}

getData();"""

_CURL_EMBEDDING = """\
curl '{base}/embeddings' \\
  -H "Content-Type: application/json" \\
  -H "Authorization: Bearer {key}" \\
  -d '{{"model": "{model}", "input": "Say this is a test!"}}'"""

_PYTHON_EMBEDDING = """\
from openai import OpenAI

client = OpenAI(
    base_url="{base}/",
    api_key="{key}"
)

response = client.embeddings.create(model="{model}", input="Say this is a test!")

print(len(response.data[0].embedding))"""

_NODE_EMBEDDING = """\
const OpenAI = require('openai');

const openai = new OpenAI({{ baseURL: '{base}', apiKey: '{key}' }});

openai.embeddings
  .create({{ model: '{model}', input: 'Say this is a test!' }})
  .then((response) => console.log(response.data[0].embedding.length))
  .catch((error) => console.error('API Error:', error.status, error.message));"""

_CHAT = {"curl": _CURL, "Python": _PYTHON, "Node.js": _NODE}
_EMBED = {"curl": _CURL_EMBEDDING, "Python": _PYTHON_EMBEDDING, "Node.js": _NODE_EMBEDDING}


def address(router_url: str, task: str) -> str:
    """Return the address that requests of ``task`` go to."""
    return f"{router_url}/v1/{'embeddings' if task == EMBEDDING else 'chat/completions'}"


def calls(router_url: str, model: str, task: str, key: str = KEY) -> dict[str, str]:
    """Return the call examples by language; each works as it stands once the key is filled in."""
    texts = _EMBED if task == EMBEDDING else _CHAT
    base = f"{router_url}/v1"
    return {name: text.format(base=base, model=model, key=key) for name, text in texts.items()}
