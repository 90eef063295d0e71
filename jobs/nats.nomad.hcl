# NATS with JetStream: what the parts of Caravan tell each other. One server, on one node, with its data there.

variable "driver" {
  type        = string
  default     = "raw_exec"
  description = "raw_exec, or docker with an image"
}

variable "image" {
  type        = string
  default     = ""
  description = "With docker: the image"
}

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "node_pool" {
  type    = string
  default = "default"
}

variable "host_network" {
  type        = string
  default     = "default"
  description = "The clients' network that the port is taken from; name one with IPv4 alone"
}

variable "node" {
  type        = string
  default     = ""
  description = "The name of the node that it is to stay on, for its data; empty: any"
}

variable "nats_server" {
  type        = string
  default     = "/usr/local/bin/nats-server"
  description = "The server's program on the node, 2.11 or newer"
}

variable "port" {
  type    = number
  default = 4222
}

variable "data_dir" {
  type        = string
  default     = "/var/lib/caravan"
  description = "Where its data lives on the node"
}

variable "args" {
  type        = list(string)
  default     = []
  description = "More arguments, e.g. [\"-c\", \"/etc/nats.conf\"]"
}

job "caravan-nats" {
  type        = "service"
  datacenters = var.datacenters
  node_pool   = var.node_pool

  ui {
    description = "The bus of **Caravan**. Without it models go on serving; changes wait."
  }

  group "nats" {
    dynamic "constraint" {
      for_each = var.node == "" ? [] : [var.node]
      content {
        attribute = "$${node.unique.name}"
        value     = constraint.value
      }
    }

    # On the same node, where its data is, for ever.
    restart {
      attempts = 5
      interval = "1m"
      delay    = "2s"
      mode     = "delay"
    }

    shutdown_delay = "1s"

    network {
      mode = "host"
      port "nats" {
        static       = var.port
        host_network = var.host_network
      }
    }

    service {
      name     = "caravan-nats"
      provider = "nomad"
      port     = "nats"
    }

    task "nats" {
      driver       = var.driver
      kill_signal  = "SIGTERM"
      kill_timeout = "30s"

      config {
        image        = var.driver == "docker" ? var.image : null
        network_mode = var.driver == "docker" ? "host" : null
        command      = var.nats_server
        args = concat([
          "--jetstream", "--store_dir", "${var.data_dir}/nats",
          "--addr", "$${NOMAD_IP_nats}", "--port", "$${NOMAD_PORT_nats}",
        ], var.args)
      }

      resources {
        cpu    = 500
        memory = 512
      }
    }
  }
}
