"""What a pump is: it moves messages between one connection and the bridge. And the pump for kombu's channels."""
